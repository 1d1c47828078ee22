"""The recipes that there are, what each reaches, and what kind of training one asks for."""

import csv
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sg_resnets.utils.errors import SgResnetsError, choices, similar
from sg_resnets.utils.paths import recipes_path

# SuperGradients' short names (its variable_setup.yaml) for keys of a recipe.
SHORTCUTS = {
    "epochs": "training_hyperparams.max_epochs",
    "lr": "training_hyperparams.initial_lr",
    "batch_size": "dataset_params.train_dataloader_params.batch_size",
    "val_batch_size": "dataset_params.val_dataloader_params.batch_size",
    "num_workers": "dataset_params.train_dataloader_params.num_workers",
    "ema": "training_hyperparams.ema",
    "resume": "training_hyperparams.resume",
}
START = "finetune_image_folder"  # what a recipe of the user's own stands on, unless told otherwise
NOT_MEASURED = "not yet measured"


def read_results() -> list[dict[str, str]]:
    """Return the rows of `recipes/results.csv`, one for each recipe and what was measured with it."""
    with open(recipes_path() / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def describe_result(row: Mapping[str, str]) -> str:
    """Return a row of `results.csv` in words."""
    if not row["mean"]:
        return NOT_MEASURED + (f"; {row['note']}" if row["note"] else "")
    spread = f" +- {row['std']}" if row["std"] else ""
    count = len(row["seeds"].split())
    seeds = f"{count} seed{'s' * (count != 1)}" if count else ""
    where = ", ".join(filter(None, (seeds, f"{row['minutes']} min" if row["minutes"] else "", row["hardware"])))
    where = f" ({where})" if where else ""
    return f"{row['metric']} {row['mean']}{spread}{where}" + (f"; {row['note']}" if row["note"] else "")


def our_recipes() -> list[str]:
    """Return the names of our recipes: those that can be trained."""
    return names_in(recipes_path())


def recipe_folders() -> list[Path]:
    """Return where our recipes are, and SuperGradients', which is not imported for it."""
    spec = find_spec("super_gradients")
    return [recipes_path(), *(Path(folder, "recipes") for folder in (spec and spec.submodule_search_locations) or [])]


def known_recipes() -> list[str]:
    """Return the names of our recipes and of SuperGradients'."""
    return [name for folder in recipe_folders() for name in names_in(folder)]


def known_groups() -> list[str]:
    """Return the names of our groups and of SuperGradients': the folders of alternatives that recipes name."""
    names = {path.name for folder in recipe_folders() for path in folder.iterdir() if path.is_dir()}
    return sorted(names - {"__pycache__"})


def names_in(folder: Path) -> list[str]:
    """Return the names of the recipes, or of a group's alternatives, in a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml") if path.is_file())


def hydra_options(recipe: str) -> list[str]:
    """Return what tells Hydra of a recipe: of ours the name, of the user's own its folder and the name of its file.

    Raises:
        SgResnetsError: there is no such recipe.
    """
    file = Path(recipe).expanduser()
    if recipe.endswith(".yaml") and file.is_file():
        return [f"--config-dir={file.absolute().parent}", f"--config-name={file.stem}"]
    own = Path(f"{recipe}.yaml")
    if recipe in (known := known_recipes()):
        if own.is_file():
            print(f"sg-resnets: {recipe} is a recipe of the package; for the file here write {own}", file=sys.stderr)
        return [f"--config-name={recipe}"]
    if file.is_dir():
        raise SgResnetsError(f"{recipe} is a folder: give a recipe's name, or its file")
    if recipe.endswith((".yaml", ".yml")) and not file.exists():
        near = [f"{file.with_name(name)}.yaml" for name in similar(file.stem, names_in(file.parent))]
        raise SgResnetsError(f"there is no file {recipe}" + (f": did you mean {' or '.join(near)}?" if near else ""))
    if file.is_file():
        raise SgResnetsError(f"{recipe}: a recipe's file must end in .yaml: rename it, {file.with_suffix('.yaml')}")
    if own.is_file():
        raise SgResnetsError(f"unknown recipe '{recipe}': a file is given with its ending, {own}")
    raise SgResnetsError(f"unknown recipe '{recipe}': {choices(recipe, known)}; or a file of yours, mine.yaml")


def is_quantization(recipe: Any) -> bool:
    """Whether a recipe calibrates and fine-tunes a quantised network."""
    return "quantization_params" in recipe
