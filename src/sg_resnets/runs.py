"""What is done with a finished or interrupted run: resume it, evaluate it, predict with it.

A run is a folder `<ckpt_root_dir>/<experiment>/RUN_<time>` with checkpoints and `.hydra/config.yaml`; each checkpoint
also carries its recipe, so it can leave its folder.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from super_gradients import Trainer
from super_gradients.training import models

from sg_resnets.compat.safe_checkpoints import read_checkpoint
from sg_resnets.diagnostics.curves import read_curves
from sg_resnets.distillation.student import student_alone
from sg_resnets.errors import SgResnetsError, choices
from sg_resnets.paths import find_run
from sg_resnets.recipe import import_plugins

SHORTCUTS = ("epochs", "lr", "batch_size", "val_batch_size", "ema", "resume", "num_workers")  # of variable_setup.yaml


def resume_run(path: Path, overrides: list[str]) -> None:
    """Train on from `ckpt_latest.pth` with the run's own recipe, `overrides` (`epochs=20`, dotted keys) put over it."""
    run = find_run(path.parent if path.is_file() else path, "ckpt_latest.pth")
    recipe = run / ".hydra" / "config.yaml"
    if not recipe.is_file():
        raise SgResnetsError(f"{recipe} is missing: the run was not trained from a recipe")
    cfg = OmegaConf.load(recipe)
    with open_dict(cfg):
        cfg.update({name: None for name in SHORTCUTS})  # what they stood for is in the recipe already
    _override(cfg, overrides)
    done, wanted = read_checkpoint(run / "ckpt_latest.pth")["epoch"], cfg.epochs or cfg.training_hyperparams.max_epochs
    if isinstance(wanted, int) and done >= wanted:
        raise SgResnetsError(
            f"{run} is finished ({done} epochs of {wanted}): resume it with epochs={2 * done} for more"
        )
    with open_dict(cfg):
        cfg.ckpt_root_dir, cfg.experiment_name = str(run.parent.parent), run.parent.name
        cfg.resume = cfg.training_hyperparams.resume = True
        cfg.training_hyperparams.run_id = run.name
    Trainer.train_from_config(cfg)


def _override(cfg: Any, overrides: list[str]) -> None:
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or OmegaConf.select(cfg, key, default=KeyError) is KeyError:
            near = choices(key, _keys(cfg), limit=8)
            raise SgResnetsError(f"'{override}' overrides nothing: write key=value with a key of the recipe; {near}")
        if key == "architecture":
            raise SgResnetsError("a run goes on with its own network: leave out architecture, or train a new run")
    cfg.merge_with_dotlist(overrides)


def _keys(cfg: Any) -> list[str]:
    """The shortcuts, then every dotted key of the recipe."""

    def below(node: Any, prefix: str) -> Iterator[str]:
        for key, value in node.items():
            if isinstance(value, dict):
                yield from below(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"

    keys = list(below(OmegaConf.to_container(cfg), ""))
    return [*SHORTCUTS, *(key for key in keys if key not in SHORTCUTS)]


def load_checkpoint(path: Path) -> tuple[Path, dict[str, Any]]:
    """A checkpoint file and what it holds; `path` may be a run's or an experiment's folder (its `ckpt_best.pth`).

    Raises:
        SgResnetsError: no such file, a damaged one, or one without the recipe that it was trained with.
    """
    if path.is_dir():
        path = find_run(path, "ckpt_best.pth") / "ckpt_best.pth"
    if not path.exists():
        raise SgResnetsError(f"there is no {path}: give a checkpoint, a run's folder, or its experiment's")
    state = read_checkpoint(path)
    if not isinstance(state, dict) or "recipe" not in state:
        raise SgResnetsError(
            f"{path} does not say which network it is: it was saved without a recipe; load it in Python with "
            "super_gradients.training.models.get(name, num_classes=N, checkpoint_path=...)"
        )
    return path, student_alone(state)


def recipe_of(state: dict[str, Any], plugins: list[str]) -> DictConfig:
    """The recipe in a checkpoint. The modules it names are the user's code, not the checkpoint's to run: whoever reads
    it has to name them again."""
    recipe = OmegaConf.create(state["recipe"])
    missing = [module for module in recipe.get("plugins") or [] if module not in plugins]
    if missing:
        raise SgResnetsError(
            f"the network was trained with plugins, modules of yours that are not imported unasked: add "
            f"{' '.join(f'--plugin {module}' for module in missing)}"
        )
    import_plugins(plugins)
    return recipe


def evaluate_checkpoint(path: Path, plugins: list[str]) -> Iterator[tuple[str, str]]:
    """Evaluate on the recipe's test data; yields the rows of a table, (what, value)."""
    path, state = load_checkpoint(path)
    cfg = recipe_of(state, plugins)
    with open_dict(cfg):
        cfg.checkpoint_params.checkpoint_path = str(path)
        cfg.checkpoint_params.pretrained_weights = None
    with _only_warnings():
        network, results = Trainer.evaluate_from_config(cfg)
    yield "model", cfg.architecture
    yield "parameters", f"{sum(p.numel() for p in network.parameters()):,}"
    yield "data", f"{cfg.dataset_params.val_dataloader_params.get('dataset') or cfg.val_dataloader}, test split"
    for name, value in results.items():
        yield f"test {name}", f"{float(value):.4f}"
    curves = [record for record in read_curves(path.parent / "curves.csv") if record.epoch <= state["epoch"]]
    yield (
        "trained for",
        f"{state['epoch']} epoch{'s' * (state['epoch'] != 1)}" + (f", {curves[-1].seconds:.0f} s" if curves else ""),
    )
    if curves:
        yield "peak memory", f"{curves[-1].peak_memory_mib:,.0f} MiB"
    yield "checkpoint", str(path)
    if curves:
        yield "curves", str(path.parent / "curves.png")


def predict_images(checkpoint: Path, images: list[Path], plugins: list[str]) -> Iterator[tuple[Path, str, float]]:
    """Yields (image file, class name, probability) for images of any size."""
    from PIL import Image, UnidentifiedImageError

    path, state = load_checkpoint(checkpoint)
    network = build_network(recipe_of(state, plugins), path)
    network.eval()
    for image in images:
        try:
            with Image.open(image) as opened:
                pixels = opened.convert("RGB")
        except FileNotFoundError:
            raise SgResnetsError(f"no image at {image}") from None
        except (UnidentifiedImageError, OSError, SyntaxError):
            raise SgResnetsError(
                f"{image} cannot be read as an image: give a whole PNG, JPEG or another file that Pillow reads"
            ) from None
        result = network.predict(_as_array(pixels), fuse_model=False, fp16=False)
        yield image, result.class_names[result.prediction.label], result.prediction.confidence


def build_network(recipe: DictConfig, checkpoint: Path) -> Any:
    """The recipe's network with the checkpoint's weights, by the host's own factory."""
    with _only_warnings():
        return models.get(
            recipe.architecture,
            arch_params=OmegaConf.to_container(recipe.arch_params),
            num_classes=recipe.arch_params.num_classes,
            checkpoint_path=str(checkpoint),
            num_input_channels=recipe.arch_params.get("num_input_channels"),
        )


def _as_array(image: Any) -> Any:
    import numpy as np

    return np.asarray(image)


@contextlib.contextmanager
def _only_warnings() -> Iterator[None]:
    """The host tells of every step; a command that prints a table does not."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
