"""`sg-resnets find-lr`: a recipe's own steps, by SuperGradients' Trainer, with a learning rate that grows with each.

What the recipe says of network, data, loss, optimiser and number format holds; what it says of a run does not: there is
no schedule, no epoch's end, no average of weights, and nothing is saved.
"""

import copy
import logging
import math
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from typing import Any

import hydra
from omegaconf import OmegaConf, open_dict
from super_gradients.common.data_types.enum import MultiGPUMode
from super_gradients.common.environment.ddp_utils import init_trainer, is_distributed
from super_gradients.common.factories.type_factory import TypeFactory
from super_gradients.training.params import DEFAULT_TRAINING_PARAMS
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils.callbacks import Callback, PhaseContext
from tqdm import tqdm

from sg_resnets.host.auto_resume import AUTO
from sg_resnets.host.current_run import as_data
from sg_resnets.host.entry import apply_shortcuts, one_line_errors, refuse_wrong_recipe
from sg_resnets.runs.build import quiet
from sg_resnets.runs.recipes import SHORTCUTS, is_quantization
from sg_resnets.training.lr_range import RateCurve, diverges
from sg_resnets.utils.errors import SgResnetsError

# What is left of training_hyperparams: steps, one after the other.
STEPS_ALONE: dict[str, Any] = {
    "lr_mode": None,
    "warmup_mode": "LinearEpochLRWarmup",
    "lr_warmup_epochs": 0,
    "lr_warmup_steps": 0,
    "warmup_initial_lr": None,
    "max_train_batches": None,
    "ema": False,
    "average_best_models": False,
    "precise_bn": False,
    "torch_compile": False,  # it would take longer than the steps
    "torch_compile_loss": False,
    "on_divergence": "stop",
    "resume": False,
    "save_model": False,
    "save_every": None,
    "save_ckpt_epoch_list": [],
    "silent_mode": True,
    "dataset_statistics": False,
    "log_installed_packages": False,
    "sg_logger": "base_sg_logger",
    "sg_logger_params": {**DEFAULT_TRAINING_PARAMS["sg_logger_params"], "monitor_system": False},
}


class SweepOver(Exception):
    """All rates have been tried, or the loss diverges. SuperGradients' `stop_training` ends a training with an epoch,
    and then saves it."""


class RateSweep(Callback):
    """Sets the rate before each step of the optimiser, and notes the loss. Groups of parameters keep the ratios of
    their rates: `rates` are those of the group with the largest.

    Raises:
        SweepOver: it is done.
    """

    def __init__(self, rates: Sequence[float]) -> None:
        self.rates = rates
        self.losses: list[float] = []  # of each step
        self.batches: list[float] = []  # of the step that goes on, which may be of several batches
        self.asked: Any = None  # the recipe's initial_lr, which the Trainer may replace by a dict
        self.diverges = False

    def __deepcopy__(self, memo: Any) -> "RateSweep":
        return self  # Hydra copies a recipe with all that is in it, and whoever asked for the sweep reads this one

    @property
    def curve(self) -> RateCurve:
        """What was seen.

        Raises:
            SgResnetsError: too little.
        """
        return RateCurve(self.rates[: len(self.losses)], self.losses, self.diverges)

    def override(self, rate: float) -> str:
        """Return what makes `rate` the largest of a recipe's rates, to be added to its command."""
        if not isinstance(self.asked, Mapping):
            return f"lr={_two_digits(rate)}"
        factor = rate / max(self.initial)  # a group that has no parameters of its own does not count
        return "lr={" + ",".join(f"{group}:{_two_digits(each * factor)}" for group, each in self.asked.items()) + "}"

    def on_training_start(self, context: PhaseContext) -> None:
        self.initial = [group["lr"] for group in context.optimizer.param_groups]
        if not max(self.initial) > 0:
            raise SgResnetsError(f"initial_lr={self.asked}: there is no rate to grow: give one, such as lr=0.1")
        self.bar = tqdm(total=len(self.rates), desc="learning rates", unit="step", leave=False, disable=None)

    def on_train_batch_backward_end(self, context: PhaseContext) -> None:
        loss = float(context.loss)
        if not math.isfinite(loss):
            self.diverges = True
            raise SweepOver
        self.batches.append(loss)

    def on_train_batch_gradient_step_start(self, context: PhaseContext) -> None:
        factor = self.rates[len(self.losses)] / max(self.initial)
        for group, rate in zip(context.optimizer.param_groups, self.initial, strict=True):
            group["lr"] = rate * factor

    def on_train_batch_gradient_step_end(self, context: PhaseContext) -> None:
        self.losses.append(statistics.fmean(self.batches))
        self.batches = []
        self.bar.update()
        self.diverges = diverges(self.losses, len(self.rates))
        if self.diverges or len(self.losses) == len(self.rates):
            raise SweepOver

    def on_training_end(self, context: PhaseContext) -> None:
        self.bar.close()


def _two_digits(rate: float) -> float:
    return float(f"{rate:.2g}")  # 1.0 and not 1, which SuperGradients takes for no rate with finetune=True


def sweep_command(rates: Sequence[float]) -> RateSweep:
    """Sweep the recipe that the command's arguments name, which are those of `super_gradients.train_from_recipe`.

    Raises:
        SystemExit: Hydra has said what is wrong with them.
    """
    sweep = RateSweep(rates)

    def task(recipe: Any) -> None:
        sweep_recipe(recipe, sweep)

    init_trainer()  # before hydra.main, as in SuperGradients' own entry point
    with tempfile.TemporaryDirectory(prefix="sg_resnets_") as folder, redirect_stdout(sys.stderr):
        sys.argv += [f"hydra.run.dir={folder}", "hydra.output_subdir=null"]
        hydra.main(config_path="pkg://super_gradients.recipes", version_base="1.2")(task)()
    return sweep


def sweep_recipe(recipe: Any, sweep: RateSweep) -> None:
    """Train a recipe until the sweep is over; its run's folder is a temporary one.

    Raises:
        RecipeError: something in the recipe cannot be meant, or it is none of which rates can be tried.
    """
    recipe = OmegaConf.create(copy.deepcopy(recipe), flags={"allow_objects": True})
    with tempfile.TemporaryDirectory(prefix="sg_resnets_") as folder:
        with one_line_errors(), open_dict(recipe):
            refuse_wrong_recipe(Trainer, recipe)
            apply_shortcuts(recipe)
            recipe.update(dict.fromkeys(SHORTCUTS))
            refuse_what_cannot_be_swept(recipe)
            epochs = len(sweep.rates) + 1  # of one step at least, so that the last is never reached
            recipe.training_hyperparams.update(
                {**STEPS_ALONE, "max_epochs": epochs, "run_validation_freq": epochs, "run_test_freq": epochs}
            )
            recipe.training_hyperparams.phase_callbacks = [sweep]
            sweep.asked = as_data(recipe.training_hyperparams.get("initial_lr"))
            recipe.ckpt_root_dir, recipe.multi_gpu = folder, "Off"
        with suppress(SweepOver), quiet(logging.INFO):
            Trainer.train_from_config(recipe)


def refuse_what_cannot_be_swept(recipe: Any) -> None:
    """Refuse a recipe of which rates cannot be tried in one process, from its first weights.

    Raises:
        SgResnetsError: it is such a one.
    """
    if is_quantization(recipe):
        raise SgResnetsError(
            "find-lr tries rates for training in float, and this recipe quantises a network that is trained: give it "
            "the recipe of the float network"
        )
    training, none = recipe.training_hyperparams, (None, False, AUTO)
    asked = [f"{key}={training[key]}" for key in ("resume", "resume_path") if training.get(key) not in none]
    if asked:
        raise SgResnetsError(f"find-lr begins with a recipe's first weights: leave out {' and '.join(asked)}")
    mode = TypeFactory(MultiGPUMode.dict()).get(recipe.get("multi_gpu"))
    if is_distributed() or mode == MultiGPUMode.DISTRIBUTED_DATA_PARALLEL:
        raise SgResnetsError(
            "find-lr trains in one process: add multi_gpu=Off num_gpus=null, and "
            "training_hyperparams.batch_accumulate=N for steps as large as those of N processes"
        )
