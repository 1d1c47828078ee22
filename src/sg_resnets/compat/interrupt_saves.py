"""Ctrl-C in the first epoch leaves nothing to resume from, as the host saves at the end of each epoch only."""

import os

FAULT = "Ctrl-C before the first epoch ends leaves no checkpoint (Trainer.train saves at the end of an epoch only)"


def present() -> bool:
    import inspect

    from super_gradients import Trainer

    return "KeyboardInterrupt" not in inspect.getsource(Trainer._train_epoch)


def repair() -> None:
    from super_gradients.training.sg_trainer.sg_trainer import Trainer
    from super_gradients.training.utils.checkpoint_utils import get_scheduler_state
    from super_gradients.training.utils.utils import unwrap_model

    from sg_resnets.compat.patching import wrap_method

    def make(original):
        def _train_epoch(self, context, silent_mode=False):
            try:
                return original(self, context, silent_mode)
            except KeyboardInterrupt:
                latest = os.path.join(self.checkpoints_dir_path, "ckpt_latest.pth")
                if self.training_params.save_model and not self.ddp_silent_mode and not os.path.exists(latest):
                    state = {
                        "net": unwrap_model(self.net).state_dict(),
                        "epoch": context.epoch,  # begun again when resumed
                        "optimizer_state_dict": self.optimizer.state_dict(),
                        "scaler_state_dict": self.scaler.state_dict(),
                    }
                    if self.ema:
                        state["ema_net"] = unwrap_model(self.ema_model.ema).state_dict()
                    if self._torch_lr_scheduler is not None:
                        state["torch_scheduler_state_dict"] = get_scheduler_state(self._torch_lr_scheduler)
                    self.sg_logger.add_checkpoint("ckpt_latest.pth", state, context.epoch)
                raise

        return _train_epoch

    wrap_method(Trainer, "_train_epoch", make)
