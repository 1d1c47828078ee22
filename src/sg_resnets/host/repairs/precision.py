"""The number format of training, and compilation.

`mixed_precision: True` means the format that the hardware computes in (`sg_resnets.training.precision`), or that of
`mixed_precision_dtype`; losses are computed in float32, and scaled for float16 alone; validation runs like training.
"""

import functools
import logging
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any

import torch
import torch.cuda.amp
from super_gradients.common.abstractions.abstract_logger import get_logger
from super_gradients.common.data_types.enum import MultiGPUMode
from super_gradients.common.environment.device_utils import device_config
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils import get_param
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from sg_resnets.host.patching import Patch, Rebind, Repair
from sg_resnets.training.precision import mixed_dtype
from sg_resnets.utils.errors import SgResnetsError, one_line

logger = get_logger(__name__)


class TrainingPrecision:
    """The format of the training that goes on; each call of `Trainer.train` sets it anew. All threads see it, as those
    of DataParallel must."""

    dtype: torch.dtype | None = None

    def autocast(self, enabled: bool = True) -> AbstractContextManager[None]:
        """Return the context in which the network runs."""
        dtype = self.dtype if enabled else None
        return torch.autocast(torch.device(device_config.device).type, dtype=dtype, enabled=dtype is not None)


PRECISION = TrainingPrecision()
_KNOWN = (Tensor, bool, int, float, str, type(None))


def choose_format(original: Callable[..., Any], self: Trainer, mixed_precision_enabled: bool) -> bool:
    """Choose the format, and scale the loss only where it is float16; returns whether it is another than float32."""
    device = str(device_config.device)
    wanted = get_param(self.training_params, "mixed_precision_dtype")
    dtype = mixed_dtype(device, wanted) if mixed_precision_enabled else None
    if dtype is torch.bfloat16 and device_config.multi_gpu == MultiGPUMode.DATA_PARALLEL:
        dtype = torch.float16  # DataParallel replicates float16 autocast only
    if mixed_precision_enabled:
        logger.info(f"Mixed precision on {device}: {dtype or 'none, float32 is the fastest here'}")
    PRECISION.dtype = dtype
    if not self.checkpoint.get("scaler_state_dict"):  # {} of a run that had no need of one
        self.checkpoint.pop("scaler_state_dict", None)
    original(self, dtype is torch.float16)
    return dtype is not None


def evaluate_like_training(original: Callable[..., Any], self: Trainer, *args: Any, **kwargs: Any) -> Any:
    """Validate in the format of training."""
    if PRECISION.dtype is None or not (self.training_params and self.training_params.mixed_precision):
        return original(self, *args, **kwargs)  # in the user's own autocast, if there is one
    with PRECISION.autocast():
        return original(self, *args, **kwargs)


def compute_loss_in_float32(original: Callable[..., Any], self: Trainer, outputs: Any, targets: Any) -> Any:
    """Compute the loss of float32 logits; of outputs that are objects of the user's own, as they are."""
    dtype = PRECISION.dtype
    if dtype is None or not all(isinstance(leaf, _KNOWN) for leaf in tree_leaves(outputs)):
        return original(self, outputs, targets)
    outputs = tree_map_only(Tensor, lambda tensor: tensor.float() if tensor.dtype is dtype else tensor, outputs)
    with torch.autocast(torch.device(device_config.device).type, enabled=False):
        return original(self, outputs, targets)


def compile_in_place(original: Callable[[Trainer], None], self: Trainer) -> None:
    """Compile the network's forward, not a wrapper around it."""
    wanted, self.training_params.torch_compile = self.training_params.torch_compile, False
    original(self)
    self.training_params.torch_compile = wanted
    if wanted:
        options = self.training_params.torch_compile_options
        try:
            self.net.compile(**options)
        except Exception as error:  # an unknown backend or mode: torch's exceptions for them share no class
            raise SgResnetsError(f"torch_compile_options={dict(options)}: {one_line(error)[:300]}") from None
        self.net._compiled_call_impl = falling_back(self.net, self.net._compiled_call_impl)


def falling_back(network: nn.Module, compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Return a compiled forward that leaves the network uncompiled where it must or need not be compiled.

    Uncompiled are calls with hooks that came later, which the compiled network would not call; a validation, not worth
    a compilation of its own; and all, with a warning, where the compiler fails.
    """
    modules = tuple(network.modules())

    def hooks() -> int:
        every = ((m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks) for m in modules)
        return sum(map(len, chain.from_iterable(every)))

    compiled_with = hooks()

    def call(*args: Any, **kwargs: Any) -> Any:
        learns = network.training and torch.is_grad_enabled()
        if not learns or hooks() != compiled_with:
            return network._call_impl(*args, **kwargs)
        from torch._dynamo.exc import TorchDynamoException

        try:
            return compiled(*args, **kwargs)
        except TorchDynamoException as error:
            logger.warning(f"torch_compile: the compiler fails, training goes on without ({one_line(error)[:200]})")
            network._compiled_call_impl = None
            return network(*args, **kwargs)

    return call


def leave_uncompiled(original: Callable[..., Any], self: Trainer, model: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Hand the user's network back as it was: a compiled one cannot be traced."""
    before = model._compiled_call_impl
    try:
        return original(self, model, *args, **kwargs)
    finally:
        model._compiled_call_impl = before


# Where it is called by its full name.
warnings.filterwarnings("ignore", r"`torch\.cuda\.amp\.", FutureWarning)
# SuperGradients' own `train_from_config` passes it so, for every recipe.
logging.getLogger("super_gradients.training.models.model_factory").addFilter(
    lambda record: not record.getMessage().startswith("Passing num_classes through arch_params")
)

REPAIRS = (
    Repair(
        "mixed_precision",
        "mixed precision is float16 on CUDA only, its validation float32, and warns of its own deprecated calls",
        [
            Rebind("autocast", torch.cuda.amp.autocast, PRECISION.autocast),
            Rebind("GradScaler", torch.cuda.amp.GradScaler, functools.partial(torch.amp.GradScaler, "cuda")),
            Patch(Trainer, "_initialize_mixed_precision", choose_format),
            Patch(Trainer, "evaluate", evaluate_like_training),
            Patch(Trainer, "_get_losses", compute_loss_in_float32),
        ],
    ),
    Repair(
        "torch_compile",
        "torch_compile saves checkpoints with keys '_orig_mod.*', which fit no network",
        [Patch(Trainer, "_prep_net_for_train", compile_in_place), Patch(Trainer, "train", leave_uncompiled)],
    ),
)
