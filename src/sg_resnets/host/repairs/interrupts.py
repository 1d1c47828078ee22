"""Ctrl-C: what was done is saved in the first epoch too, and the command that trains knows of it."""

import copy
import os
from collections.abc import Callable
from typing import Any

from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils.callbacks import PhaseContext
from super_gradients.training.utils.checkpoint_utils import get_scheduler_state
from super_gradients.training.utils.utils import unwrap_model

from sg_resnets.host.current_run import current_run
from sg_resnets.host.patching import HOST, Patch, Repair
from sg_resnets.runs.find import LATEST


def _scheduler_state(trainer: Trainer) -> Any:
    scheduler = trainer._torch_lr_scheduler
    return None if scheduler is None else copy.deepcopy(get_scheduler_state(scheduler))


def _save(trainer: Trainer, context: PhaseContext, epoch: int, scheduler: Any) -> None:
    """Write what a run is resumed from; `epoch` is the one to begin with."""
    state = {
        "net": unwrap_model(context.net).state_dict(),  # `trainer.net` is the averaged one in a validation
        "epoch": epoch,
        "optimizer_state_dict": trainer.optimizer.state_dict(),
        "scaler_state_dict": trainer.scaler.state_dict(),
    }
    if trainer.ema:
        state["ema_net"] = unwrap_model(trainer.ema_model.ema).state_dict()
    if scheduler is not None:
        state["torch_scheduler_state_dict"] = scheduler
    processing = trainer._get_preprocessing_from_valid_loader()
    if processing is not None:
        state["processing_params"] = processing
    trainer.sg_logger.add_checkpoint(LATEST, state, epoch)


def _saves_alone(trainer: Trainer) -> bool:
    """Whether nothing has been saved yet, by a logger of SuperGradients': a user's own may want more than `_save`
    gives."""
    latest = os.path.join(trainer.checkpoints_dir_path, LATEST)
    own = type(trainer.sg_logger).__module__.partition(".")[0] == HOST
    return own and trainer.training_params.save_model and not trainer.ddp_silent_mode and not os.path.exists(latest)


def save_first_epoch(original: Callable[..., Any], self: Trainer, context: Any, silent_mode: bool = False) -> Any:
    """Save in the first epoch, which SuperGradients does only after its validation."""
    at_the_start = _scheduler_state(self)
    try:
        return original(self, context, silent_mode)
    except KeyboardInterrupt:
        if _saves_alone(self):
            _save(self, context, context.epoch, at_the_start)  # the epoch is begun again
        raise


def save_before_validation(original: Callable[..., Any], self: Trainer, context: Any, *args: Any, **kwargs: Any) -> Any:
    """Save before the first validation: it may be interrupted, or the process killed."""
    if _saves_alone(self):
        _save(self, context, context.epoch + 1, _scheduler_state(self))
    return original(self, context, *args, **kwargs)


def notice_interrupt(original: Callable[..., Any], self: Trainer, *args: Any, **kwargs: Any) -> Any:
    """Tell the current run of Ctrl-C, on which SuperGradients ends the training and goes on."""
    try:
        return original(self, *args, **kwargs)
    except KeyboardInterrupt:
        run = current_run()
        if run is not None:
            run.interrupted = True
        raise


REPAIRS = (
    Repair(
        "interrupt",
        "Ctrl-C before the first epoch's end leaves no checkpoint; a stopped run ends with exit code 0, and in a "
        "sweep the "
        "next job begins",
        [
            Patch(Trainer, "_train_epoch", save_first_epoch),
            Patch(Trainer, "_train_epoch", notice_interrupt),
            Patch(Trainer, "_validate_epoch", save_before_validation),
            Patch(Trainer, "_validate_epoch", notice_interrupt),
        ],
    ),
)
