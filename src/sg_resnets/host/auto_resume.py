"""`resume=auto`: the same command goes on with the run that it had begun, and begins none twice."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf, open_dict
from super_gradients.common.environment.checkpoints_dir_utils import get_checkpoints_dir_path
from super_gradients.common.environment.ddp_utils import is_launched_using_sg
from super_gradients.training.sg_trainer.sg_trainer import QuantizationResult

from sg_resnets.host.current_run import CurrentRun
from sg_resnets.runs.build import follow_split
from sg_resnets.runs.checkpoints import read
from sg_resnets.runs.find import BEST, LATEST, is_finished, runs_with
from sg_resnets.runs.recipes import is_quantization
from sg_resnets.runs.resume import forget_first_weights
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.files import make_folder

if sys.platform == "win32":
    fcntl = None  # and nothing is held
else:
    import fcntl

AUTO = "auto"
VARIABLE = "SG_RESNETS_RESUME"
FINGERPRINT = "fingerprint"  # a file of a run, which says of which recipe and overrides it is


def take_auto(recipe: Any) -> bool:
    """Whether a recipe asks for it (so does the environment, and a launcher that starts its processes again); what the
    other parts of SuperGradients see is a new run, for now."""
    asked = AUTO in (recipe.get("resume"), OmegaConf.select(recipe, "training_hyperparams.resume"))
    if asked:
        recipe.resume = recipe.training_hyperparams.resume = False
    again = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0
    return asked or ((again or os.environ.get(VARIABLE) == AUTO) and not recipe.get("resume"))


def fingerprint(recipe: Mapping[str, Any]) -> str:
    """Return what tells a recipe with its overrides from others."""
    training = {key: value for key, value in recipe["training_hyperparams"].items() if key not in ("resume", "run_id")}
    asked = {**{key: value for key, value in recipe.items() if key != "resume"}, "training_hyperparams": training}
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:16]


def begun(experiment: Path, asked: str) -> Path | None:
    """Return the latest run with a checkpoint that such a recipe has begun."""
    for run in runs_with(experiment, LATEST):
        mark = run / ".hydra" / FINGERPRINT
        if mark.is_file() and mark.read_text() == asked:
            return run
    return None


@contextmanager
def one_at_a_time(experiment: Path, asked: str) -> Iterator[None]:
    """While open, no other process trains this recipe in this folder; the system lets go of it with the process.

    Raises:
        SgResnetsError: another one does.
    """
    of_several = "LOCAL_RANK" in os.environ and (os.environ["RANK"] != "0" or is_launched_using_sg())
    if of_several or fcntl is None:  # the process that started them, or the first of them, holds it
        yield
        return
    make_folder(experiment, "ckpt_root_dir")
    with open(experiment / f".{asked}.lock", "w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # which a loader's workers do not hold too
        except OSError:
            raise SgResnetsError(
                f"this recipe is being trained in {experiment}, by the same command: wait for it, or give another "
                "experiment_name"
            ) from None
        yield


@contextmanager
def going_on(recipe: Any, current: CurrentRun) -> Iterator[Path | None]:
    """While open, the recipe is that of the run that was begun, if one was. Yields that run if it is finished, which is
    said then. One that was trained to its end, and killed before it wrote the last of its files, is not: it goes on
    with no epoch left."""
    root = recipe.get("ckpt_root_dir")
    experiment = Path(get_checkpoints_dir_path(ckpt_root_dir=root, experiment_name=recipe.experiment_name))
    asked = fingerprint(current.recipe)
    with one_at_a_time(experiment, asked):
        run = begun(experiment, asked)
        if run is not None and is_finished(run):
            print(f"{run} is finished, nothing is left to train: resume=False begins a new run")
            current.objective = float(read(run / BEST)["acc"]) if (run / BEST).is_file() else None
            yield run
            return
        if run is not None:
            resume_run(recipe, run)
        yield None


def resume_run(recipe: Any, run: Path) -> None:
    """Make a recipe resume a run."""
    state = read(run / LATEST)
    with open_dict(recipe):
        recipe.resume = recipe.training_hyperparams.resume = True
        recipe.training_hyperparams.run_id = run.name
        if state.get("progress", {}).get("stop_training"):
            recipe.training_hyperparams.max_epochs = max(state["epoch"], 1)
    follow_split(recipe, run)
    if not is_quantization(recipe):  # which calibrates the float network once more
        forget_first_weights(recipe)


def finished_quantization(run: Path, recipe: Any) -> QuantizationResult:
    """Return what SuperGradients' callers get of a quantisation that is finished: its files and figures."""
    metrics = read(run / LATEST).get("metrics", {}).get("valid", {})
    output = OmegaConf.select(recipe, "export_params.output_onnx_path") or run / "qat.onnx"
    return QuantizationResult(quantized_model=None, output_onnx_path=str(output), valid_metrics_dict=metrics)
