"""Training on a GPU: what makes a step short there, which batch fits where memory ran out, and a word where a GPU is
left idle."""

import gc
import logging
import math
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from super_gradients.common.data_types.enum import MultiGPUMode
from super_gradients.common.environment.device_utils import device_config
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils.callbacks import Callback, PhaseContext
from super_gradients.training.utils.utils import unwrap_model
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from sg_resnets.host.repairs.precision import PRECISION
from sg_resnets.models import ResNet
from sg_resnets.training.muon import Muon, gradients_of
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.hardware import why_gpu_is_idle
from sg_resnets.utils.replay import Replayed

logger = logging.getLogger(__name__)
FUSED = ("SGD", "Adam", "AdamW")  # PyTorch's, one kernel for all weights
LONG = 4000  # steps


def say_if_idle() -> None:
    """Warn where there is an NVIDIA GPU, and training runs on the CPU all the same."""
    reason = why_gpu_is_idle() if device_config.device == "cpu" else None
    if reason:
        logger.warning(f"training runs on the CPU, though this machine has an NVIDIA GPU: {reason}")


def with_fused_optimizer(training_params: dict[str, Any]) -> dict[str, Any]:
    """Return parameters with PyTorch's fused optimiser on a GPU, unless they say something of it."""
    optimizer, params = training_params.get("optimizer"), dict(training_params.get("optimizer_params") or {})
    chosen = {"fused", "foreach", "capturable", "differentiable"} & params.keys()
    if not device_config.is_cuda or optimizer not in FUSED or chosen:
        return training_params
    return {**training_params, "optimizer_params": {**params, "fused": True}}


class ReplayedStep(Callback):
    """On a GPU the steps of Muon, and of SGD where it is fused, are one launch each: a recording, replayed. Their rates
    may change; if anything else does, the step is recorded anew."""

    optimizer: Optimizer | None = None

    def on_training_start(self, context: PhaseContext) -> None:
        if not may_be_recorded(context.optimizer):
            return
        self.optimizer, self.original = context.optimizer, context.optimizer.step
        self.original = getattr(self.original, "replaces", self.original)  # of a training that was broken off
        self.replayed = Replayed(self._step, torch.device(context.device))

        def step(optimizer: Optimizer, closure: Any = None) -> Any:
            return self.step(closure)

        step.replaces = self.original  # type: ignore[attr-defined]
        if hasattr(self.original, "_wrapped_by_lr_sched"):  # PyTorch's schedules look for it
            step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
        self.optimizer.step = MethodType(step, self.optimizer)  # type: ignore[method-assign]

    def on_training_end(self, context: PhaseContext) -> None:
        if self.optimizer is not None:
            self.optimizer.step = self.original  # type: ignore[method-assign]
            for name in ("optimizer", "replayed", "weights"):  # which hold memory
                self.__dict__.pop(name, None)

    def step(self, closure: Any = None) -> Any:
        """Stand for the optimiser's."""
        optimizer = self.optimizer
        assert optimizer is not None
        self.weights = [
            weight for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None
        ]
        hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
        is_scaled = getattr(optimizer, "found_inf", None) is not None  # by a GradScaler, with new tensors in each step
        if closure is not None or hooks or is_scaled or not self.weights:
            return self.original(closure)
        groups = optimizer.param_groups
        rest = [{key: value for key, value in group.items() if key not in ("params", "lr")} for group in groups]
        states = [value for weight in self.weights for value in optimizer.state[weight].values()]
        places = [each.data_ptr() for each in (*self.weights, *states) if isinstance(each, Tensor)]
        rates = torch.tensor([group["lr"] for group in groups], dtype=torch.float32)  # as fused kernels read them
        return self.replayed([*gradients_of(self.weights), rates], (places, rest))

    def _step(self, *inputs: Tensor) -> None:
        *given, rates = inputs
        groups = self.optimizer.param_groups if self.optimizer is not None else []
        before = [weight.grad for weight in self.weights], [group["lr"] for group in groups]
        try:
            self._set(given, groups, rates.unbind())
            self.original()
        finally:
            self._set(before[0], groups, before[1])

    def _set(self, gradients: Sequence[Tensor | None], groups: Sequence[Any], rates: Sequence[Any]) -> None:
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate


def may_be_recorded(optimizer: Optimizer) -> bool:
    """Whether a step reads nothing back from the GPU: SGD that is not fused reads its rate."""
    is_fused = all(group.get("fused") for group in optimizer.param_groups)
    return type(optimizer) is Muon or (type(optimizer) is SGD and is_fused)


def with_compiled_network(training_params: dict[str, Any], network: nn.Module, steps: int) -> dict[str, Any]:
    """Return parameters that settle `torch_compile`, where they leave it open: True for a network of ours on one GPU,
    and a training so long that compilation, some 15 seconds, is won back."""
    if "torch_compile" not in training_params or training_params["torch_compile"] is not None:
        return training_params
    alone = device_config.is_cuda and device_config.multi_gpu == MultiGPUMode.OFF
    return {**training_params, "torch_compile": alone and isinstance(network, ResNet) and steps >= LONG}


@contextmanager
def naming_the_batch_that_fits(trainer: Trainer, loader: Any, test_loader: Any) -> Iterator[None]:
    """While open, a GPU that runs out of memory ends training with a line that says which batch would fit.

    Raises:
        SgResnetsError: it has.
    """
    functions: set[str] = set()
    try:
        yield
    except torch.OutOfMemoryError as error:
        functions = {frame.name for frame in traceback.extract_tb(error.__traceback__)}
        traceback.clear_frames(error.__traceback__)  # whose variables hold the memory
        said = str(error).partition(". Tried")[0]
    if not functions:
        return
    in_validation = "evaluate" in functions
    split, of_split = ("val", test_loader) if in_validation else ("train", loader)
    asked = getattr(of_split, "batch_size", None)
    if not (in_validation or "_train_epoch" in functions):
        raise SgResnetsError(f"{said} before the first batch: take a smaller network, or free the GPU's memory")
    if not isinstance(of_split, DataLoader) or asked is None:
        raise SgResnetsError(f"{said}: set a smaller batch_size")
    fits = largest_batch(trainer, of_split, learns=not in_validation)
    key = f"dataset_params.{split}_dataloader_params.batch_size"
    if not fits:
        raise SgResnetsError(f"{said}, and not for a single image either: take a smaller network, or smaller images")
    accumulate = f", and with training_hyperparams.batch_accumulate={math.ceil(asked / fits)} steps are as large"
    raise SgResnetsError(f"{said} with {key}={asked}: {fits} fits" + ("" if in_validation else accumulate))


def largest_batch(trainer: Trainer, loader: DataLoader, learns: bool) -> int:
    """Return the largest half, quarter, ... of the loader's batch that the GPU has memory for, with its gradients if it
    `learns`, beside what an optimiser keeps of each weight; 0 if one image is too much."""
    network = unwrap_model(trainer.net)
    network._compiled_call_impl = None  # it would be compiled anew for each size
    for weight in network.parameters():
        weight.grad = None
    free_memory()
    batch = next(iter(loader))[0]
    count = len(batch) // 2
    while count:
        try:
            _try(network, batch[:count], learns)
            return count
        except torch.OutOfMemoryError:
            count //= 2
        free_memory()
    return 0


def free_memory() -> None:
    """Give back what is not in use."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _try(network: nn.Module, images: Tensor, learns: bool) -> None:
    kept = [torch.empty_like(weight) for weight in network.parameters() for _ in range(2 * learns)]
    with torch.set_grad_enabled(learns), PRECISION.autocast():
        outputs = network(images.to(device_config.device))
    parts = [leaf.float().sum() for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.requires_grad]
    if parts:
        torch.stack(parts).sum().backward()
    for weight in network.parameters():
        weight.grad = None
    del kept
