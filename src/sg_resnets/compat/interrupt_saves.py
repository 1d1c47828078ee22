"""Until the first epoch and its validation have ended, Ctrl-C leaves nothing to resume from: the host saves only then.
In a sweep it ends one job, and the next begins."""

import copy
import os

FAULT = "Ctrl-C before the first epoch's end leaves no checkpoint (Trainer.train), and in a sweep ends one job alone"


def present() -> bool:
    import inspect

    from super_gradients import Trainer

    return "KeyboardInterrupt" not in inspect.getsource(Trainer._train_epoch)


def repair() -> None:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from super_gradients.training.sg_trainer.sg_trainer import Trainer
    from super_gradients.training.utils.checkpoint_utils import get_scheduler_state
    from super_gradients.training.utils.utils import unwrap_model

    from sg_resnets.compat.patching import wrap_method, wrap_recipe_entries

    def save(trainer, epoch, scheduler):
        state = {
            "net": unwrap_model(trainer.net).state_dict(),
            "epoch": epoch,  # where to begin when resumed
            "optimizer_state_dict": trainer.optimizer.state_dict(),
            "scaler_state_dict": trainer.scaler.state_dict(),
        }
        if trainer.ema:
            state["ema_net"] = unwrap_model(trainer.ema_model.ema).state_dict()
        if scheduler is not None:
            state["torch_scheduler_state_dict"] = scheduler
        trainer.sg_logger.add_checkpoint("ckpt_latest.pth", state, epoch)

    def scheduler_of(trainer):
        scheduler = trainer._torch_lr_scheduler
        return None if scheduler is None else copy.deepcopy(get_scheduler_state(scheduler))

    def before_the_first_checkpoint(original):
        def _train_epoch(self, context, silent_mode=False):
            latest = os.path.join(self.checkpoints_dir_path, "ckpt_latest.pth")
            if not self.training_params.save_model or self.ddp_silent_mode or os.path.exists(latest):
                return original(self, context, silent_mode)
            at_the_start = scheduler_of(self)
            try:
                result = original(self, context, silent_mode)
            except KeyboardInterrupt:
                save(self, context.epoch, at_the_start)  # the epoch is begun again
                raise
            save(self, context.epoch + 1, scheduler_of(self))  # it may be interrupted in its validation
            return result

        return _train_epoch

    stopped = False  # whether Ctrl-C was pressed in this job: the host ends its training, and goes on

    def watched(original):
        def epoch(self, *args, **kwargs):
            nonlocal stopped
            try:
                return original(self, *args, **kwargs)
            except KeyboardInterrupt:
                stopped = True
                raise

        return epoch

    def the_whole_sweep(original):
        def run(cls, cfg, *args, **kwargs):
            nonlocal stopped
            stopped = False
            result = original(cls, cfg, *args, **kwargs)
            if stopped and HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
                raise SystemExit(130)
            return result

        return run

    wrap_method(Trainer, "_train_epoch", before_the_first_checkpoint)
    wrap_method(Trainer, "_train_epoch", watched)
    wrap_method(Trainer, "_validate_epoch", watched)
    wrap_recipe_entries(the_whole_sweep, training_only=True)
