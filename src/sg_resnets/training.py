"""What our recipes ask of the host's Trainer beyond what it offers: `channels_last`, memory kept between steps, a look
at data and network before training, and an end to it when the loss is no number any more."""

import ctypes
import math
import platform
from pathlib import Path

import torch
from super_gradients.common.environment.device_utils import device_config
from super_gradients.training.datasets.mixup import CollateMixup
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils import get_param
from super_gradients.training.utils.callbacks import Callback, PhaseContext
from super_gradients.training.utils.utils import unwrap_model
from torch import nn
from torch.utils.data import DataLoader

from sg_resnets.compat.patching import wrap_method
from sg_resnets.errors import SgResnetsError
from sg_resnets.nn import ResNet


def extend_trainer() -> None:
    """`channels_last: True` keeps weights and activations in NHWC order, which convolutions are faster in."""

    def with_layout(original):
        def _net_to_device(self):
            if get_param(self.training_params, "channels_last", False) and _is_safe_in_channels_last(self.net):
                self.net.to(memory_format=torch.channels_last)
            original(self)

        return _net_to_device

    def with_checks(original):
        def train(self, model, training_params=None, train_loader=None, valid_loader=None, *args, **kwargs):
            if train_loader is not None:
                check_data(model, train_loader, valid_loader)
            if device_config.device == "cpu":
                keep_freed_memory()
            callbacks = [*(get_param(training_params, "phase_callbacks") or []), StopWhenNotFinite()]
            training_params = {**training_params, "phase_callbacks": callbacks}
            return original(self, model, training_params, train_loader, valid_loader, *args, **kwargs)

        return train

    wrap_method(Trainer, "_net_to_device", with_layout)
    wrap_method(Trainer, "train", with_checks)


def keep_freed_memory() -> None:
    """Have the C library keep what a step frees for the next step, which needs as much again. By default glibc hands
    activations back to the system, which clears each of their pages anew: thousands of page faults a step. Memory at
    its peak is the same. Blocks over 1 GiB, and other C libraries, are left alone. mallopt(3): M_TRIM_THRESHOLD
    is -1, M_MMAP_THRESHOLD -3."""
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(-1, -1)
        library.mallopt(-3, 2**30)


class StopWhenNotFinite(Callback):
    """Ends training at the step whose loss is infinite or no number, before it is written into a checkpoint.

    On a CPU that is before the backward pass. On a GPU it is after the step, when the host has waited for the loss
    anyway; the statistics of batch-norm still tell where the numbers broke. Scaled float16 losses are left alone.

    Raises:
        SgResnetsError: names step, layer and the last good checkpoint.
    """

    def on_train_batch_loss_end(self, context: PhaseContext) -> None:
        if context.device == "cpu":
            self._check(context)

    def on_train_batch_end(self, context: PhaseContext) -> None:
        if context.device != "cpu":
            self._check(context)

    def _check(self, context: PhaseContext) -> None:
        loss = float(context.loss_log_items[0])
        if math.isfinite(loss):
            return
        layer = _first_broken_layer(unwrap_model(context.net))
        latest = Path(context.ckpt_dir, "ckpt_latest.pth")
        kept = f"the last good checkpoint is {latest}" if latest.is_file() else "nothing was saved yet"
        raise SgResnetsError(
            f"the loss is {loss} at step {context.batch_idx + 1} of epoch {context.epoch + 1}, first in {layer}: "
            f"try a lower lr, or training_hyperparams.clip_grad_norm=1.0; {kept}"
        )


def _first_broken_layer(network: nn.Module) -> str:
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d) and not all(
            t.isfinite().all() for t in (*module.parameters(), module.running_mean, module.running_var) if t is not None
        ):
            return name
        if not list(module.children()) and not all(p.isfinite().all() for p in module.parameters()):
            return name
    return "the loss itself"


def _is_safe_in_channels_last(network: nn.Module) -> bool:
    """On a CPU, PyTorch 2.14's backward pass of a 1x1 convolution of stride 2 with 4 input channels corrupts memory in
    this layout ('double free or corruption'); from 8 channels on it does not."""
    if torch.cuda.is_available():
        return True
    narrow = [
        m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) and m.in_channels < 8
    ]
    return not narrow


def check_data(network: nn.Module, loader: DataLoader, valid_loader: DataLoader | None = None) -> None:
    """Refuse data that the network cannot be trained on.

    Raises:
        SgResnetsError: there is not one whole batch, workers for data on a GPU, mixing of an odd batch, or other
            classes than the network's.
    """
    if len(loader) == 0:
        raise SgResnetsError(
            f"the training data has {len(loader.dataset)} images, fewer than one batch of {loader.batch_size}: "  # type: ignore[arg-type]
            "set a smaller batch_size"
        )
    for split, each in (("train", loader), ("val", valid_loader)):
        if each is not None and each.num_workers and getattr(each.dataset, "images", torch.empty(0)).is_cuda:
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
    names, head = getattr(loader.dataset, "class_names", None), getattr(network, "fc", None)
    if names and isinstance(network, ResNet) and isinstance(head, nn.Linear) and head.out_features != len(names):
        raise SgResnetsError(
            f"the network has {head.out_features} classes but the data has {len(names)}: "
            f"set arch_params.num_classes={len(names)}"
        )
