"""Between the loss and the optimiser's step."""

from collections.abc import Callable, Mapping
from typing import Any

from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils import optimizer_utils
from torch import Tensor, nn
from torch.optim import Optimizer

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


def refuse_empty_groups(model: nn.Module, lr_dict: Mapping[str, float]) -> None:
    """Refuse a layer group that no parameter belongs to, which would be empty without a word.

    Raises:
        LayerGroupError: there is one, or no rate for all other layers.
    """
    if lr_dict.get("default") is None:
        raise LayerGroupError("initial_lr: a dict of rates needs one for all other layers: default")
    names = [name for name, _ in model.named_parameters()]
    for group in lr_dict:
        if group != "default" and not any(name.startswith(group) for name in names):
            valid = choices(group, dict.fromkeys(name.partition(".")[0] for name in names))
            raise LayerGroupError(f"initial_lr: no parameter's name begins with '{group}': {valid}")


def ordered_groups(original: Callable[..., Any], model: nn.Module, lr_dict: Mapping[str, float]) -> Any:
    """Return the groups in the order of the recipe. SuperGradients goes through a set of their names, in another order
    in each process, and a resumed optimiser matches groups by their places."""
    refuse_empty_groups(model, lr_dict)
    order = _order(lr_dict)
    return sorted(original(model, lr_dict), key=lambda group: order.index(group["name"]))


def _order(rates: Mapping[str, float]) -> list[str]:
    return [*(name for name in rates if name != "default"), "default"]


def match_saved_groups(original: Callable[..., None], self: Trainer) -> None:
    """Bring the groups of a checkpoint's optimiser into the order of the recipe's, and leave to this machine whether
    its steps are fused: a run may go on on another one.

    Raises:
        LayerGroupError: the recipe has other groups.
    """
    original(self)
    params, saved = self.training_params, self.checkpoint.get("optimizer_state_dict")
    if not saved or not self.load_checkpoint or self.load_weights_only or not params.load_opt_params:
        return
    if isinstance(params.optimizer, Optimizer):
        return  # the user's own
    groups, rates = saved["param_groups"], params.initial_lr
    for group in groups:
        if "fused" in group:
            group["fused"] = params.optimizer_params.get("fused")
    if params.finetune or any("name" not in group for group in groups):
        return  # the network says which groups it has
    rates = rates if isinstance(rates, Mapping) else {"default": rates}
    order = _order(rates)
    before = dict.fromkeys(group["name"] for group in groups)
    now = [name for name in order if rates[name]]  # those of rate 0 are frozen, and are no groups
    if {*before} - {"default"} != {*now} - {"default"}:
        raise LayerGroupError(
            f"initial_lr: the run has rates for {', '.join(before)}, and this for {', '.join(now)}: a run goes on with "
            "its own groups"
        )
    groups.sort(key=lambda group: order.index(group["name"]))


REPAIRS = (
    Repair(
        "batch_accumulate",
        # The norm of an update: 0.0434 with a batch of 128, and 0.0867 with 2 x 64.
        "batch_accumulate sums the gradients of n batches: the learning rate is n times too large",
        [Patch(Trainer, "_backward_step", average_over_accumulated)],
    ),
    Repair(
        "layer_groups",
        "a layer group of initial_lr that no parameter belongs to is empty without a word; a resumed run gives the "
        "rates and momenta of one group to another",
        [
            Patch(optimizer_utils, "separate_lr_groups", ordered_groups),
            Patch(Trainer, "_load_checkpoint_to_model", match_saved_groups),
        ],
    ),
    Repair(
        "zero_weight_decay",
        "zero_weight_decay_on_bias_and_bn knows parameters by name: Fixup's biases, ReZero's and LayerScale's factors "
        "decay",
        [Patch(optimizer_utils, "_get_no_decay_param_ids", add_scalars_and_channel_factors)],
    ),
)
