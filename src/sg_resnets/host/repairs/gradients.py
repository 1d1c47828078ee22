"""Between the loss and the optimiser's step."""

from collections.abc import Callable, Mapping
from typing import Any

from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils import optimizer_utils
from torch import Tensor, nn

from sg_resnets.host.patching import Patch, Repair
from sg_resnets.utils.errors import SgResnetsError, choices


def average_over_accumulated(
    original: Callable[..., None], self: Trainer, loss: Tensor, *args: Any, **kwargs: Any
) -> None:
    """Take the mean over the accumulated batches in place of their sum."""
    original(self, loss / self.batch_accumulate if self.batch_accumulate > 1 else loss, *args, **kwargs)


def add_scalars_and_channel_factors(original: Callable[[nn.Module], list[int]], module: nn.Module) -> list[int]:
    """Return the ids of all parameters that are no matrices: one number, or one for each channel."""
    others = [id(p) for p in module.parameters() if p.ndim < 2 or p.numel() == p.shape[0]]
    return list(dict.fromkeys([*original(module), *others]))


class LayerGroupError(SgResnetsError, RuntimeError):
    """Ours, and what SuperGradients raises for a dict of rates."""


def refuse_empty_groups(original: Callable[..., Any], model: nn.Module, lr_dict: Mapping[str, float]) -> Any:
    """Refuse a layer group that no parameter belongs to, which would be empty without a word."""
    if lr_dict.get("default") is None:
        raise LayerGroupError("initial_lr: a dict of rates needs one for all other layers: default")
    names = [name for name, _ in model.named_parameters()]
    for group in lr_dict:
        if group != "default" and not any(name.startswith(group) for name in names):
            valid = choices(group, dict.fromkeys(name.partition(".")[0] for name in names))
            raise LayerGroupError(f"initial_lr: no parameter's name begins with '{group}': {valid}")
    return original(model, lr_dict)


REPAIRS = (
    Repair(
        "batch_accumulate",
        # The norm of an update: 0.0434 with a batch of 128, and 0.0867 with 2 x 64.
        "batch_accumulate sums the gradients of n batches: the learning rate is n times too large",
        [Patch(Trainer, "_backward_step", average_over_accumulated)],
    ),
    Repair(
        "layer_groups",
        "a layer group of initial_lr that no parameter belongs to is empty without a word",
        [Patch(optimizer_utils, "separate_lr_groups", refuse_empty_groups)],
    ),
    Repair(
        "zero_weight_decay",
        "zero_weight_decay_on_bias_and_bn knows parameters by name: Fixup's biases, ReZero's and LayerScale's factors "
        "decay",
        [Patch(optimizer_utils, "_get_no_decay_param_ids", add_scalars_and_channel_factors)],
    ),
)
