"""From a recipe that a run left to what it names: its network, its loaders, its calibration data."""

import contextlib
import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from super_gradients.common.data_types.enum import StrictLoad
from super_gradients.training import dataloaders, models

from sg_resnets.data.folder import SPLIT, is_split_of_run
from sg_resnets.data.image_folder import NAMES
from sg_resnets.quantization.graph import QuantizedNetwork, rebuild
from sg_resnets.quantization.params import QuantizationParams
from sg_resnets.runs.checkpoints import averaged_weights
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.foreign_code import refuse_foreign_code
from sg_resnets.utils.plugins import import_plugins

# Keys of a data set's parameters that say which images it has; all others say what is done to them.
_WHICH_IMAGES = (
    "root", "labels", "train", "split", "val_fraction", "split_seed", "left_out", "max_samples", "skip_samples",
    "synthetic",
)  # fmt: skip


@contextlib.contextmanager
def quiet(level: int = logging.WARNING) -> Iterator[None]:
    """While open, what is no graver than `level` is not logged: SuperGradients tells of every step, and a command that
    prints a table does not."""
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)


def recipe_of(state: Mapping[str, Any], plugins: Sequence[str]) -> DictConfig:
    """Return the recipe in a checkpoint. The modules it names are the user's code, not the checkpoint's to run: whoever
    reads it has to name them again.

    Raises:
        SgResnetsError: a module that it was trained with, or has something built of, is not among `plugins`.
    """
    recipe = OmegaConf.create(state["recipe"])
    missing = [module for module in recipe.get("plugins") or [] if module not in plugins]
    if missing:
        raise SgResnetsError(
            f"the network was trained with plugins, modules of yours that are not imported unasked: add "
            f"{' '.join(f'--plugin {module}' for module in missing)}"
        )
    refuse_foreign_code(state["recipe"], plugins)
    import_plugins(plugins)
    return recipe


def build_network(recipe: DictConfig, checkpoint: Path | None = None) -> Any:
    """Return the recipe's network by SuperGradients' own factory, with the checkpoint's weights, loaded strictly."""
    with quiet():
        return models.get(
            recipe.architecture,
            arch_params=OmegaConf.to_container(recipe.arch_params),
            num_classes=recipe.arch_params.num_classes,
            checkpoint_path=checkpoint and str(checkpoint),
            strict_load=StrictLoad.ON,
            num_input_channels=recipe.arch_params.get("num_input_channels"),
        )


def build_quantized(recipe: DictConfig, state: Mapping[str, Any]) -> QuantizedNetwork:
    """Return the quantised network of a checkpoint's contents."""
    params = QuantizationParams.from_recipe(recipe.get("quantization_params"))
    return rebuild(build_network(recipe), params, averaged_weights(state))


def reads_folder(recipe: Any, split: str = "train") -> bool:
    """Whether a recipe's data of `split` is a folder of pictures."""
    loading = (recipe.get("dataset_params") or {}).get(f"{split}_dataloader_params") or {}
    return not {loading.get("dataset"), recipe.get(f"{split}_dataloader")}.isdisjoint(NAMES)


def follow_split(recipe: Any, run: Path, everything: bool = False) -> bool:
    """Have a recipe use the pictures as a run has split them, where it did so and its folder has them, or has
    `everything`; whether it does."""
    file, data = run / SPLIT, recipe.dataset_params
    train, val = data.train_dataset_params, data.val_dataset_params
    root, labels = train.get("root"), train.get("labels")
    # A list of the user's own; that of the run before, or one that is gone, is in this run's.
    chosen = labels and Path(labels).expanduser().is_file() and not is_split_of_run(Path(labels))
    if not is_split_of_run(file) or not root or chosen or val.get("labels") != labels or val.get("root") != root:
        return False
    place = Path(str(root)).expanduser()
    place = place.parent if place.is_file() else place
    with open(file, encoding="utf-8", errors="surrogateescape", newline="") as rows:
        if not (all if everything else any)((place / row["file"]).is_file() for row in csv.DictReader(rows)):
            return False
    with open_dict(recipe):
        train.labels = val.labels = str(file.absolute())
    return True


def loader_of(recipe: DictConfig, split: str) -> Any:
    """Return the recipe's loader of `split`, "train", "val" or "calib"."""
    data = recipe.dataset_params
    dataset, loading = (data[f"{split}_{part}_params"] for part in ("dataset", "dataloader"))
    return dataloaders.get(
        name=recipe.get(f"{split}_dataloader"),
        dataset_params=OmegaConf.to_container(dataset, resolve=True),
        dataloader_params=OmegaConf.to_container(loading, resolve=True),
    )


def add_calibration_data(recipe: Any) -> None:
    """Calibrate on training images as they are evaluated, in batches as they are trained on, unless the recipe says
    otherwise."""
    data = recipe.dataset_params
    if "calib_dataloader" in recipe:
        return
    parts = ("train_dataset", "val_dataset", "train_dataloader", "val_dataloader")
    plain: list[Any] = [OmegaConf.to_container(data[f"{part}_params"], resolve=True) for part in parts]
    train, evaluated, training, evaluating = plain
    which = {key: train[key] for key in _WHICH_IMAGES if key in train}
    prepared = {key: value for key, value in evaluated.items() if key not in _WHICH_IMAGES}
    loading = {key: training[key] for key in ("dataset", "batch_size") if key in training}
    with open_dict(recipe):
        recipe.calib_dataloader = recipe.get("train_dataloader")
        data.calib_dataset_params = {**prepared, **which}
        if reads_folder(recipe):
            data.calib_dataset_params.augmented = False  # the others augment only what their parameters say
        data.calib_dataloader_params = {**evaluating, **loading, "shuffle": True, "drop_last": False}
