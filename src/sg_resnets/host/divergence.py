"""A loss that is NaN or infinite: it ends the training, or, where the recipe asks for it, sends it back to its last
checkpoint with half the learning rate."""

import copy
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from super_gradients.common.abstractions.abstract_logger import get_logger
from super_gradients.common.environment.ddp_utils import get_world_size
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils.callbacks import Callback, PhaseContext
from super_gradients.training.utils.early_stopping import EarlyStop
from super_gradients.training.utils.utils import fuzzy_str, unwrap_model
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sg_resnets.host.preemption import Stop
from sg_resnets.host.progress import Progress, plain_values
from sg_resnets.host.waits import Waits
from sg_resnets.runs.find import LATEST
from sg_resnets.training.intervals import Interval
from sg_resnets.utils.checks import one_of
from sg_resnets.utils.errors import SgResnetsError

STOP, ROLLBACK = "stop", "rollback"
ON_DIVERGENCE = one_of(STOP, ROLLBACK)
MOST_ROLLBACKS = 3
STEPS_BETWEEN_LOOKS = 32
logger = get_logger(__name__)


class DivergenceError(SgResnetsError):
    """A loss that is NaN or infinite."""


class StopWhenNotFinite(Callback):
    """Ends training at the step whose loss is NaN or infinite, or whose weights would be saved and are, before they are
    written into a checkpoint.

    On a CPU that is before the step. On a GPU, for which a step would have to wait, the losses of up to 32 steps are
    looked at together. A loss that `EarlyStop(check_finite=True)` among the `others` watches is left to it: it ends the
    run itself, at an epoch's end.

    Args:
        others: the callbacks beside it, as they are or as YAML has them.
        together: of several processes all end when one does, to begin again together.

    Raises:
        DivergenceError: names the step, on a CPU the layer, and the last good checkpoint.
    """

    def __init__(self, others: Sequence[Any] = (), together: bool = False) -> None:
        self.others = others
        self.together = together
        self.losses: deque[Tensor] = deque()  # not looked at yet

    def on_train_loader_start(self, context: PhaseContext) -> None:
        self.losses.clear()

    def on_train_batch_backward_end(self, context: PhaseContext) -> None:
        if context.device == "cpu":
            self.losses.append(context.loss)
            self._check(context)

    def on_train_batch_end(self, context: PhaseContext) -> None:
        if context.device != "cpu":
            is_overwritten = context.training_params.torch_compile_loss  # in the next step, if it is a CUDA graph's
            self.losses.append(context.loss.clone() if is_overwritten else context.loss)
            if len(self.losses) == STEPS_BETWEEN_LOOKS:
                self._check(context)

    def on_train_loader_end(self, context: PhaseContext) -> None:
        if self.losses:
            self._check(context)

    def _check(self, context: PhaseContext) -> None:
        losses = torch.stack(tuple(self.losses)).flatten()
        first = context.batch_idx + 2 - len(losses)
        self.losses.clear()
        if self.together and get_world_size() > 1:
            dist.all_reduce(losses)  # the sum is not finite if one of them is not
        for step, value in enumerate(losses.tolist(), first):
            if not math.isfinite(value):
                where = ""  # on a GPU all layers are broken by now
                if context.device == "cpu":
                    where = f", first in {_first_broken_layer(unwrap_model(context.net)) or 'the loss itself'}"
                self._end(context, f"the loss is {value} at step {step} of epoch", where)

    def check_weights(self, context: PhaseContext) -> None:
        """Refuse weights of which no checkpoint is to be written; all processes take part."""
        if self.losses:
            self._check(context)
        layer = _first_broken_layer(unwrap_model(context.net))
        if get_world_size() > 1:
            layers: list[str] = [""] * get_world_size()
            dist.all_gather_object(layers, layer)
            layer = next(filter(None, layers), "")
        if layer:  # the loss does not tell until the next step, and where a quantiser makes numbers of them never
            self._end(context, f"weights of {layer} are NaN or infinite at step {context.batch_idx + 1} of epoch")

    def _end(self, context: PhaseContext, what: str, where: str = "") -> None:
        if _is_watched(context.loss_logging_items_names, self.others):
            return
        latest = Path(context.ckpt_dir, LATEST)
        saved = f"the last good checkpoint is {latest}" if latest.is_file() else "nothing was saved yet"
        raise DivergenceError(
            f"{what} {context.epoch + 1}{where}: try a lower lr, or training_hyperparams.clip_grad_norm=1.0; {saved}"
        )


def _is_watched(losses: Sequence[str], callbacks: Sequence[Any]) -> bool:
    """Whether an EarlyStop among the callbacks, as they are or as YAML has them, ends a run whose loss is not
    finite."""
    for callback in callbacks:
        params = callback.get("EarlyStop") if isinstance(callback, Mapping) else None
        if isinstance(callback, EarlyStop):
            params = {"monitor": callback.monitor_key, "check_finite": callback.check_finite}
        watched_loss = params and params.get("check_finite", True) and fuzzy_str(str(params.get("monitor")))
        if watched_loss and watched_loss in map(fuzzy_str, losses):
            return True
    return False


def _first_broken_layer(network: nn.Module) -> str:
    """The name of the first module whose own trained weights, or statistics, are not finite; "" if there is none. Other
    buffers may be infinite by intent, as a mask is."""
    for name, module in network.named_modules():
        own = [parameter for parameter in module.parameters(recurse=False) if parameter.requires_grad]
        own += [module.running_mean, module.running_var] if isinstance(module, _BatchNorm) else []
        if not all(tensor.isfinite().all() for tensor in own if tensor is not None):
            return name or type(module).__name__
    return ""


def train_on(self: Trainer, train: Callable[[dict[str, Any]], Any], params: dict[str, Any], stop: Stop) -> Any:
    """Return what `train(params)` returns; where it diverges and `on_divergence` is `rollback`, train again from the
    last checkpoint with half the rate, at most three times in a run.

    Raises:
        DivergenceError: it has diverged, and is not to be rolled back, or not once more.
        SgResnetsError: it cannot be rolled back: nothing is saved, or the optimiser was built before.
    """
    rolls_back = ON_DIVERGENCE("on_divergence", params.get("on_divergence") or STOP) == ROLLBACK
    interval = Interval.parse(params.get("save_every"))
    if rolls_back:
        refuse_without_way_back(params)
    kills_group = params.get("kill_ddp_pgroup_on_end", True)
    if rolls_back and get_world_size() > 1:
        params = {**params, "kill_ddp_pgroup_on_end": False}
    given = [each for each in params.get("phase_callbacks") or () if isinstance(each, Callback)]
    as_they_began = copy.deepcopy(list(map(plain_values, given)))
    check = next((each.check_weights for each in given if isinstance(each, StopWhenNotFinite)), None)
    rollbacks, waits = 0, Waits()
    while True:
        self.progress = Progress(
            self, stop, interval, rollbacks=rollbacks, saves_start=rolls_back, check=check, waits=waits
        )
        try:
            result = train(params)
        except DivergenceError as error:
            rollbacks = self.progress.rollbacks + 1
            if not rolls_back:
                raise
            if rollbacks > MOST_ROLLBACKS:
                raise DivergenceError(f"{error}; it was rolled back {MOST_ROLLBACKS} times, to no avail") from None
            self.progress.end_workers()
            params = {**params, **self.progress.way_back()}
            for callback, state in zip(given, as_they_began, strict=True):  # those that a recipe names are built anew
                vars(callback).update(copy.deepcopy(state))
            reason = str(error).partition(":")[0]
            logger.warning(
                f"{reason}: back to the last checkpoint, with {0.5**rollbacks:g} of the rate ({rollbacks} of at most "
                f"{MOST_ROLLBACKS} rollbacks)"
            )
            continue
        if rolls_back and kills_group and dist.is_initialized():
            dist.destroy_process_group()
        return result


def refuse_without_way_back(params: Mapping[str, Any]) -> None:
    """Refuse a training that cannot be rolled back."""
    if not params.get("save_model", True):
        raise SgResnetsError("on_divergence=rollback needs checkpoints: leave out save_model=False")
    if isinstance(params.get("optimizer"), torch.optim.Optimizer):
        raise SgResnetsError(
            "on_divergence=rollback builds the optimiser anew, with half the rate: give its name and initial_lr"
        )
