"""Learning rates: schedules of each batch, the warm-up before them, PyTorch's schedules."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from super_gradients.common.registry.registry import LR_WARMUP_CLS_DICT, TORCH_LR_SCHEDULERS
from super_gradients.training.utils.callbacks import LinearBatchLRWarmup, LRCallbackBase, PhaseContext
from super_gradients.training.utils.callbacks import callbacks as host_callbacks

from sg_resnets.host.patching import Patch, Put, Repair
from sg_resnets.utils.errors import SgResnetsError

# Each computes its rate from the number of the batch alone; a user's own may count its calls, or read a batch's loss.
OF_BATCHES = tuple(
    getattr(host_callbacks, f"{kind}LRScheduler") for kind in ("Exponential", "Poly", "Cosine", "Function")
)


def set_rate_before_batch(self: LRCallbackBase, context: PhaseContext) -> None:
    """Set the rate for a batch before its update, once the warm-up of batches is over; SuperGradients sets it after."""
    params = self.training_params
    by_batch = LR_WARMUP_CLS_DICT.get(params.warmup_mode, params.warmup_mode) is LinearBatchLRWarmup
    if not (by_batch and context.epoch * self.train_loader_len + context.batch_idx < params.lr_warmup_steps):
        self(context)


def leave_rate_after_batch(self: LRCallbackBase, context: PhaseContext) -> None:
    """Do nothing: the rate was set before the batch."""


def warm_up_for_one_epoch(
    original: Callable[..., None],
    self: LinearBatchLRWarmup,
    warmup_initial_lr: Any,
    initial_lr: Any,
    train_loader_len: int,
    lr_warmup_steps: int,
    training_params: Any,
    net: Any,
    **kwargs: Any,
) -> None:
    """Take `lr_warmup_epochs: 1` for the steps of an epoch, and cut longer warm-ups to one, for the cosine too, which
    reads its length from `training_params`.

    Raises:
        SgResnetsError: more than one epoch is asked for.
    """
    epochs = training_params.lr_warmup_epochs
    train_loader_len = min(training_params.max_train_batches or train_loader_len, train_loader_len)
    if not lr_warmup_steps and epochs:
        if epochs != 1:
            raise SgResnetsError(
                f"lr_warmup_epochs={epochs}: LinearBatchLRWarmup climbs within the first epoch: set 1, or "
                "warmup_mode=LinearEpochLRWarmup"
            )
        lr_warmup_steps, training_params.lr_warmup_epochs = train_loader_len, 0
    training_params.lr_warmup_steps = min(lr_warmup_steps, train_loader_len)
    original(
        self, warmup_initial_lr, initial_lr, train_loader_len, lr_warmup_steps, training_params, net, **kwargs
    )  # it says so where it cuts


def leave_out_inherited_groups(
    original: Callable[..., Any],
    lr_mode: Any,
    train_loader: Any,
    net: Any,
    training_params: Any,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Say that `update_param_groups` is left out only of networks that define it themselves: all of SuperGradients'
    inherit one that does what its schedules do."""
    logger = logging.getLogger(host_callbacks.__name__)
    inherited = "update_param_groups" not in vars(type(net))

    def keep(record: logging.LogRecord) -> bool:
        return not (inherited and "update_param_groups" in record.getMessage())

    logger.addFilter(keep)
    try:
        return original(lr_mode, train_loader, net, training_params, *args, **kwargs)
    finally:
        logger.removeFilter(keep)


REPAIRS = (
    Repair(
        "schedule_of_batches",
        "the schedules of each batch (cosine, polynomial, ...) set the rate of batch i after its update",
        [
            change
            for schedule in OF_BATCHES
            for change in (
                Put(schedule, "on_train_batch_start", set_rate_before_batch),
                Put(schedule, "on_train_batch_gradient_step_end", leave_rate_after_batch),
            )
        ],
    ),
    Repair(
        "warmup_steps",
        "a warm-up is cut to an epoch, but the cosine waits for all lr_warmup_steps: on small data it never falls; "
        "its length "
        "is counted in steps alone",
        [Patch(LinearBatchLRWarmup, "__init__", warm_up_for_one_epoch)],
    ),
    Repair(
        "one_cycle",
        "PyTorch's OneCycleLR is not registered",
        [Put(TORCH_LR_SCHEDULERS, "OneCycleLR", torch.optim.lr_scheduler.OneCycleLR)],
    ),
    Repair(
        "schedule_warning",
        "each of PyTorch's schedules is answered with a warning of update_param_groups, which nobody has set",
        [Patch(host_callbacks, "create_lr_scheduler_callback", leave_out_inherited_groups)],
    ),
)
