"""Checkpoints as SuperGradients reads and writes them; reading, verifying and writing itself is in
`runs/checkpoints.py`."""

import shutil
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from super_gradients.common.sg_loggers import base_sg_logger, clearml_sg_logger, dagshub_sg_logger, wandb_sg_logger
from super_gradients.common.sg_loggers.base_sg_logger import BaseSGLogger
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils import checkpoint_utils, weight_averaging_utils
from super_gradients.training.utils.utils import unwrap_model
from super_gradients.training.utils.weight_averaging_utils import ModelWeightAveraging
from torch import nn

from sg_resnets.distillation.student import student_alone
from sg_resnets.host.auto_resume import FINGERPRINT, fingerprint
from sg_resnets.host.classes import note_weights
from sg_resnets.host.current_run import CurrentRun, current_run
from sg_resnets.host.folders import write_split
from sg_resnets.host.patching import Patch, Put, Repair
from sg_resnets.host.repairs.weights import read_url
from sg_resnets.runs import checkpoints
from sg_resnets.runs.find import LATEST
from sg_resnets.utils.errors import MisfitError, SgResnetsError
from sg_resnets.utils.files import whole_file, write_bytes


@dataclass
class Loading:
    """A checkpoint that is loaded into a network: the network, and what was read for it."""

    network: nn.Module
    state: dict[str, Any] = field(default_factory=dict)


_loading: ContextVar[Loading | None] = ContextVar("loading", default=None)


def read_as_data(original: Callable[..., Any], ckpt_path: str, device: str = "cpu") -> dict[str, Any]:
    """Read a checkpoint as data; for a network that is loaded, with the names of its weights, and of a distillation the
    student alone, unless a distillation is resumed."""
    read = read_url if str(ckpt_path).startswith("https://") else checkpoints.read
    state = read(ckpt_path, device)
    loading = _loading.get()
    if loading is None:
        return state
    if not hasattr(loading.network, "student"):
        state = student_alone(state)
    names = list(loading.network.state_dict())
    state.update({key: checkpoints.renamed(state[key], names) for key in ("net", "ema_net") if key in state})
    loading.state = dict(state)  # SuperGradients may throw parts of it away
    return state


def load_verified(
    original: Callable[..., Any], net: nn.Module, ckpt_local_path: str, *args: Any, **kwargs: Any
) -> Mapping[str, Any]:
    """Load a checkpoint; say in a line why it does not fit, and refuse that of another network with the same names."""
    network = unwrap_model(net)
    loading = Loading(network)
    token = _loading.set(loading)
    try:
        checkpoint = original(net, ckpt_local_path, *args, **kwargs)
    except SgResnetsError:
        raise
    except (RuntimeError, ValueError, KeyError) as error:
        if kwargs.get("load_backbone") and not hasattr(network, "backbone"):
            raise
        raise MisfitError(checkpoints.explain_misfit(network, ckpt_local_path, loading.state)) from error
    finally:
        _loading.reset(token)
    checkpoints.refuse_twin(network, ckpt_local_path, loading.state.get("recipe") or {})
    note_weights(network, ckpt_local_path, loading.state)
    return checkpoint


class WholeFiles:
    """torch for the modules that write checkpoints, but that `save` writes them whole or not at all."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    save = staticmethod(checkpoints.write)


def remember_recipe(
    original: Callable[..., None],
    self: BaseSGLogger,
    tag: str,
    state_dict: Mapping[str, Any],
    *args: Any,
    **kwargs: Any,
) -> None:
    """Write the recipe into each checkpoint, the student alone into all but the one that a run is resumed from, and the
    recipe of a resumed run into its folder, now that it works."""
    run = current_run()
    state = dict(state_dict) if run is None else {"recipe": run.recipe, **state_dict}
    original(self, tag, state if tag == LATEST or run is None else student_alone(state), *args, **kwargs)
    if run is not None:
        _write_recipe(run, self._local_dir)


def write_first_recipe(original: Callable[..., None], self: BaseSGLogger) -> None:
    """Write the recipe into the folder of a new run."""
    original(self)
    run = current_run()
    if run is None:
        return
    write_split(run, Path(self._local_dir))
    folder = Path(self._local_dir, ".hydra")
    if not (folder / "config.yaml").is_file():
        _write_recipe(run, self._local_dir)
    if not (folder / FINGERPRINT).is_file():  # Hydra, at the command line, has written the rest
        write_bytes(folder / FINGERPRINT, fingerprint(run.recipe).encode())


def _write_recipe(run: CurrentRun, folder: str) -> None:
    from omegaconf import OmegaConf

    path = Path(folder, ".hydra", "config.yaml")
    text = OmegaConf.to_yaml(run.composed)
    if not path.is_file() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            temporary.write_text(text)


def load_without_evaluating(original: Callable[[Trainer], None], self: Trainer) -> None:
    """Load without an evaluation: `restore_best` asks the best checkpoint itself."""
    original(self)
    self._eval_before_resume = False


def restore_best(original: Callable[[Trainer], None], self: Trainer) -> None:
    """Resolve the watched metric's name, and with it find the best figure so far."""
    params, progress = self.training_params, self.checkpoint.get("progress") or {}
    snapshots = Path(self.checkpoints_dir_path, "averaging_snapshots.pkl")
    if snapshots.is_file() and not self.ddp_silent_mode:
        settle_snapshots(snapshots, progress.get("snapshots"))
    original(self)
    if self.model_weight_averaging is not None:
        figures = progress.get("snapshots") or checkpoints.read(snapshots)["snapshots_metric"].tolist()
        self.model_weight_averaging.figures = figures
    if not self.load_checkpoint or self.load_weights_only:
        return
    resumed_from = Path(params.resume_path or Path(self.checkpoints_dir_path, params.ckpt_name))
    best, copy = resumed_from.with_name(params.ckpt_best_name), Path(self.checkpoints_dir_path, params.ckpt_best_name)
    self._reset_best_metric()
    better = max if self.greater_metric_to_watch_is_better else min
    for figure, metrics in figures_so_far(best, self.checkpoint, self.metric_to_watch):
        if better(figure, self.best_metric) == figure:
            self.best_metric, self._best_ckpt_metrics = figure, metrics
    if best.is_file() and not copy.exists() and not self.ddp_silent_mode:  # a new folder, of resume_path, holds it too
        with whole_file(copy) as temporary:
            shutil.copyfile(best, temporary)


def figures_so_far(best: Path, resumed: Mapping[str, Any], metric: str) -> list[tuple[float, Any]]:
    """Return what is known of a metric, with the metrics beside it: `ckpt_best.pth` itself knows; where there is none,
    or it is of an epoch that is trained again, the resumed checkpoint."""
    state = checkpoints.read(best) if best.is_file() else {}
    if state and state.get("epoch", 0) <= resumed.get("epoch", 0):
        known = [(state.get("acc"), state.get("metrics"))]
    else:
        before = resumed.get("_best_ckpt_metrics") or {}
        _, figure, metrics = resumed.get("progress", {}).get("best", [metric, None, None])
        known = [(before.get("valid", {}).get(metric), before), (figure, metrics)]
        known += [] if state else [(resumed.get("acc"), resumed.get("metrics"))]
    return [
        (figure, metrics)
        for figure, metrics in known
        if figure is not None and metrics and metrics["tracked_metric_name"] == metric
    ]


def keep_figures(
    original: Callable[..., dict[str, Any]], self: ModelWeightAveraging, *args: Any, **kwargs: Any
) -> dict[str, Any]:
    """Note the figures of the snapshots that are averaged: a checkpoint says with them which file of snapshots it goes
    with."""
    snapshots = original(self, *args, **kwargs)
    self.figures = snapshots["snapshots_metric"].tolist()
    return snapshots


def settle_snapshots(file: Path, figures: list[float] | None) -> None:
    """Take back the snapshots of an epoch whose checkpoint was not written any more: it is trained again."""
    previous = file.with_name(checkpoints.PREVIOUS[file.name])
    if figures is None or not previous.is_file() or checkpoints.read(file)["snapshots_metric"].tolist() == figures:
        return
    with whole_file(file) as temporary:
        shutil.copyfile(previous, temporary)


def remove_both(original: Callable[..., None], self: ModelWeightAveraging) -> None:
    """Remove the snapshots, and those before."""
    original(self)
    file = Path(self.averaging_snapshots_file)
    file.with_name(checkpoints.PREVIOUS[file.name]).unlink(missing_ok=True)


def allow_numpy(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Let the snapshots' array of metrics be read."""
    with torch.serialization.safe_globals(checkpoints.numpy_globals()):
        return original(*args, **kwargs)


_LOGGER_MODULES = (base_sg_logger, wandb_sg_logger, clearml_sg_logger, dagshub_sg_logger)
_LOGGERS = (  # each writes checkpoints by itself
    BaseSGLogger,
    wandb_sg_logger.WandBSGLogger,
    clearml_sg_logger.ClearMLSGLogger,
    dagshub_sg_logger.DagsHubSGLogger,
)

REPAIRS = (
    Repair(
        "safe_checkpoints",
        "checkpoints are read with torch.load's default, a wrong one is answered with a page of keys, and another "
        "network's with the same names is loaded without a word",
        [
            Patch(checkpoint_utils, "read_ckpt_state_dict", read_as_data),
            Patch(checkpoint_utils, "load_checkpoint_to_model", load_verified),
        ],
    ),
    Repair(
        "whole_checkpoints",
        "checkpoints are written in place: a kill during the write loses the run",
        [Put(module, "torch", WholeFiles()) for module in (*_LOGGER_MODULES, weight_averaging_utils)],
    ),
    Repair(
        "recipe_in_checkpoints",
        "a checkpoint does not say which recipe it is of",
        [
            *(Patch(logger, "add_checkpoint", remember_recipe) for logger in _LOGGERS),
            Patch(BaseSGLogger, "_setup_dir", write_first_recipe),
        ],
    ),
    Repair(
        "best_checkpoint",
        "resuming forgets the best figure: metric_to_watch is None when the checkpoint is loaded, so ckpt_best.pth is "
        "never, or always, replaced",
        [
            Patch(Trainer, "_load_checkpoint_to_model", load_without_evaluating),
            Patch(Trainer, "_init_monitored_items", restore_best),
        ],
    ),
    Repair(
        "average_best_models",
        "average_best_models, the default, ends the first epoch: UnpicklingError for averaging_snapshots.pkl",
        [
            Patch(ModelWeightAveraging, "__init__", allow_numpy),
            Patch(ModelWeightAveraging, "_get_averaging_snapshots_dict", allow_numpy),
            Patch(ModelWeightAveraging, "update_snapshots_dict", keep_figures),
            Patch(ModelWeightAveraging, "cleanup", remove_both),
        ],
    ),
)
