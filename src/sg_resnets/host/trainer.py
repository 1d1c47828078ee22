"""What our recipes ask of SuperGradients' Trainer beyond what it offers: `channels_last`, memory kept between steps, a
look at data and network before training, and an end to it when the loss becomes NaN or infinite."""

from collections.abc import Callable
from typing import Any

import torch
from omegaconf import OmegaConf
from super_gradients.common.abstractions.abstract_logger import get_logger
from super_gradients.common.environment.device_utils import device_config
from super_gradients.training.datasets.mixup import CollateMixup
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils import get_param
from super_gradients.training.utils.ema_decay_schedules import EMA_DECAY_FUNCTIONS
from torch import nn
from torch.utils.data import DataLoader

from sg_resnets.data.preprocessing import class_names_of
from sg_resnets.host.current_run import current_run
from sg_resnets.host.divergence import ROLLBACK, StopWhenNotFinite
from sg_resnets.host.gpu import (
    ReplayedStep,
    naming_the_batch_that_fits,
    say_if_idle,
    with_compiled_network,
    with_fused_optimizer,
)
from sg_resnets.host.patching import Patch, Repair
from sg_resnets.host.repairs.losses import with_class_weights
from sg_resnets.models import ResNet
from sg_resnets.training.determinism import deterministic
from sg_resnets.training.memory import keep_freed_memory
from sg_resnets.utils.checks import BOOLEAN
from sg_resnets.utils.errors import SgResnetsError

AVERAGED_PART, MOST_OF_BEFORE = 0.25, 0.5  # of an average's weight, from before the last quarter of training
logger = get_logger(__name__)


def train_checked(
    original: Callable[..., Any],
    self: Trainer,
    model: nn.Module,
    training_params: Any = None,
    train_loader: DataLoader | None = None,
    valid_loader: DataLoader | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Check data and network, train, and tell the current run what the watched metric reached."""
    if train_loader is not None:
        check_data(model, train_loader, valid_loader)
        refuse_long_accumulation(training_params or {}, train_loader)
    say_if_idle()
    if device_config.device == "cpu":
        keep_freed_memory()
    if OmegaConf.is_config(training_params):
        training_params = OmegaConf.to_container(training_params, resolve=True)
    training_params = with_fused_optimizer(dict(training_params or {}))
    training_params = with_class_weights(training_params, getattr(train_loader, "dataset", None))
    batches = batches_of_epoch(training_params, train_loader)
    training_params = with_compiled_network(training_params, model, training_params.get("max_epochs", 0) * batches)
    if training_params.get("ema") and train_loader is not None:
        settle_average(training_params, batches)
    callbacks = list(training_params.get("phase_callbacks") or [])
    together = training_params.get("on_divergence") == ROLLBACK
    of_a_gpu = [ReplayedStep()] if device_config.is_cuda else []
    training_params["phase_callbacks"] = [*callbacks, *of_a_gpu, StopWhenNotFinite(callbacks, together)]
    always_the_same = deterministic(BOOLEAN("deterministic", training_params.get("deterministic") or False))
    with always_the_same, naming_the_batch_that_fits(self, train_loader, valid_loader):
        result = original(self, model, training_params, train_loader, valid_loader, *args, **kwargs)
    run = current_run()
    if run is not None:
        run.objective = float(self.best_metric)
    return result


def show_loss(
    original: Callable[..., None],
    self: Trainer,
    loss: torch.Tensor,
    epoch: int,
    batch_idx: int,
    context: Any,
    **kw: Any,
) -> None:
    """Show the callbacks the loss that is minimised: what is logged of it may be parts, or nothing."""
    context.update_context(loss=loss.detach())
    original(self, loss, epoch, batch_idx, context, **kw)


def settle_average(training_params: dict[str, Any], batches: int) -> None:
    """Choose the decay of the moving average of the weights where the recipe leaves it open: 95 % of the average stem
    from the last quarter of training. Warn of one with which the average still consists of old weights then."""
    steps = training_params.get("max_epochs", 0) * batches // training_params.get("batch_accumulate", 1)
    params = dict(training_params.get("ema_params") or {})
    fitting = 0.05 ** (1 / (AVERAGED_PART * steps)) if steps else 0.0
    if params.get("decay") is None and "decay" in params:
        training_params["ema_params"] = {**params, "decay": fitting}
        return
    decay, kind = params.pop("decay", None), params.pop("decay_type", "exp")
    if not (decay and steps and kind in EMA_DECAY_FUNCTIONS):
        return
    schedule = EMA_DECAY_FUNCTIONS[kind](**{"beta": 15, **params})
    old = 1.0
    for step in range(int((1 - AVERAGED_PART) * steps), steps):
        old *= schedule(decay, step, steps)
    if old > MOST_OF_BEFORE:
        logger.warning(
            f"ema: with decay={decay}, {old:.0%} of the averaged weights stem from before the last quarter of the "
            f"{steps} steps: set training_hyperparams.ema_params.decay={fitting:.4f}"
        )


def keep_layout(original: Callable[[Trainer], None], self: Trainer) -> None:
    """`channels_last: True` keeps weights and activations in NHWC order, which convolutions are faster in."""
    if get_param(self.training_params, "channels_last", False):
        if device_config.is_cuda or is_safe_in_channels_last(self.net):
            self.net.to(memory_format=torch.channels_last)
        else:
            logger.info(
                "channels_last is left out: PyTorch's 1x1 convolutions of few channels are not safe in it on a CPU"
            )
    original(self)


def is_safe_in_channels_last(network: nn.Module) -> bool:
    """Whether a network can be trained in this layout on a CPU. PyTorch 2.14's backward pass of a 1x1 convolution of
    stride 2 with 4 input channels corrupts memory in it ('double free or corruption'); from 8 channels on it does
    not."""
    narrow = [
        m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) and m.in_channels < 8
    ]
    return not narrow


def refuse_long_accumulation(training_params: Any, loader: DataLoader) -> None:
    """Refuse steps of more batches than an epoch has: schedules, and the averages of weights, count steps by epoch."""
    batches, asked = batches_of_epoch(training_params, loader), training_params.get("batch_accumulate") or 1
    if asked > batches > 0:
        raise SgResnetsError(
            f"batch_accumulate={asked}: an epoch has {batches} batches, so that it would end without a step: set at "
            f"most {batches}, or a smaller batch_size"
        )


def batches_of_epoch(training_params: Any, loader: DataLoader | None) -> int:
    """How many batches an epoch trains on; 0 without a loader."""
    if loader is None:
        return 0
    return min(training_params.get("max_train_batches") or len(loader), len(loader))


def check_data(network: nn.Module, loader: DataLoader, valid_loader: DataLoader | None = None) -> None:
    """Refuse data that the network cannot be trained on.

    Raises:
        SgResnetsError: there is not one whole batch, workers for data on a GPU, mixing of an odd batch, or other
            classes than the network's.
    """
    if not isinstance(loader, DataLoader):
        return  # of the user's own, who knows its data
    if len(loader) == 0:
        images = len(loader.dataset)  # type: ignore[arg-type]
        raise SgResnetsError(
            f"the training data has {images} images, fewer than one batch of {loader.batch_size}: set a smaller "
            f"batch_size"
        )
    for split, each in (("train", loader), ("val", valid_loader)):
        if (
            isinstance(each, DataLoader)
            and each.num_workers
            and getattr(each.dataset, "images", torch.empty(0)).is_cuda
        ):
            workers = f"dataset_params.{split}_dataloader_params.num_workers"
            raise SgResnetsError(
                f"{workers}={each.num_workers}, but the data is on the GPU, which makes its batches there: set "
                f"{workers}=0, or dataset_params.{split}_dataset_params.data_on=host"
            )
    if isinstance(loader.collate_fn, CollateMixup):
        remainder = 0 if loader.drop_last else len(loader.sampler) % (loader.batch_size or 1)  # type: ignore[arg-type]
        if (loader.batch_size or 0) % 2 or remainder % 2:
            raise SgResnetsError(
                f"mixup and cutmix pair the images of a batch: batch_size={loader.batch_size} must be even, and "
                "dataset_params.train_dataloader_params.drop_last=True where the last batch is not"
            )
    names, head = class_names_of(loader.dataset), getattr(network, "fc", None)
    if names and isinstance(network, ResNet) and isinstance(head, nn.Linear) and head.out_features != len(names):
        raise SgResnetsError(
            f"the network has {head.out_features} classes but the data has {len(names)}: "
            f"set {network.arch_params_key}.num_classes={len(names)}"
        )


REPAIRS = (
    Repair(
        "trainer",
        "training goes on with a NaN loss, on data of other classes, in fewer images than a batch; a DictConfig among "
        "training_params fails its schema; no memory layout can be chosen",
        [
            Patch(Trainer, "_net_to_device", keep_layout),
            Patch(Trainer, "train", train_checked),
            Patch(Trainer, "_backward_step", show_loss),
        ],
    ),
)
