"""The recipes that there are, what each reaches, and what kind of training one asks for."""

import csv
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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
    return f"{row['metric']} {row['mean']}{spread} ({where})" + (f"; {row['note']}" if row["note"] else "")


def our_recipes() -> list[str]:
    """Return the names of our recipes: those that can be trained."""
    return sorted(path.stem for path in recipes_path().glob("*.yaml"))


def known_recipes() -> list[str]:
    """Return the names of our recipes and of SuperGradients', which is not imported for it."""
    spec = find_spec("super_gradients")
    folders = [Path(folder, "recipes") for folder in (spec.submodule_search_locations or [] if spec else [])]
    return our_recipes() + sorted(path.stem for folder in folders for path in folder.glob("*.yaml"))


def is_quantization(recipe: Any) -> bool:
    """Whether a recipe calibrates and fine-tunes a quantised network."""
    return "quantization_params" in recipe
