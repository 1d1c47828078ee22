"""Evaluate a checkpoint on the test data of its recipe."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from super_gradients import Trainer

from sg_resnets.quantization.graph import is_quantized
from sg_resnets.runs.build import build_quantized, loader_of, only_warnings, recipe_of
from sg_resnets.runs.checkpoints import load
from sg_resnets.runs.curves import read_curves


def start_from(recipe: Any, checkpoint: Path) -> None:
    """Make a recipe load this checkpoint of its own network, whatever its run once started from."""
    with open_dict(recipe):
        recipe.checkpoint_params.checkpoint_path = str(checkpoint)
        recipe.checkpoint_params.pretrained_weights = None
        recipe.checkpoint_params.checkpoint_num_classes = None


def evaluate_checkpoint(path: Path, plugins: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Evaluate a checkpoint, a run's best or an experiment's; yield the rows of a table, (what, value)."""
    path, state = load(path)
    recipe = recipe_of(state, plugins)
    start_from(recipe, path)
    quantized = is_quantized(state["net"])
    with only_warnings(), TemporaryDirectory() as folder:
        with open_dict(recipe):
            recipe.multi_gpu, recipe.num_gpus = "Off", None  # in this process, wherever it was trained
            recipe.ckpt_root_dir = folder  # which SuperGradients makes; nothing is written into it
        network, results = _evaluate_quantized(recipe, state) if quantized else Trainer.evaluate_from_config(recipe)
    data, prefix = describe_data(recipe)
    yield "model", recipe.architecture + (", quantised" if quantized else "")
    yield "parameters", f"{sum(p.numel() for p in network.parameters()):,}"
    yield "data", data
    for name, value in results.items():
        yield f"{prefix} {name}", f"{float(value):.4f}"
    epochs = state.get("epoch", 0)
    curves = [record for record in read_curves(path.parent / "curves.csv") if record.epoch <= epochs]
    seconds = f", {curves[-1].seconds:.0f} s" if curves else ""
    yield "trained for", f"{epochs} epoch{'s' * (epochs != 1)}{seconds}"
    if curves:
        yield "peak memory", f"{curves[-1].peak_memory_mib:,.0f} MiB"
    yield "checkpoint", str(path)
    if curves:
        yield "curves", str(path.parent / "curves.png")


def describe_data(recipe: DictConfig) -> tuple[str, str]:
    """Return which images a recipe evaluates on, in words, and a word to put before a metric's name."""
    dataset, params = (
        recipe.dataset_params.val_dataloader_params.get("dataset"),
        recipe.dataset_params.val_dataset_params,
    )
    name = dataset or recipe.get("val_dataloader")
    if params.get("train"):
        return f"{name}, training images that were held out", "held-out"
    return (f"{name}, val split", "val") if name == "image_folder" else (f"{name}, test split", "test")


def _evaluate_quantized(recipe: DictConfig, state: Mapping[str, Any]) -> tuple[Any, dict[str, float]]:
    network = build_quantized(recipe, state)
    trainer = Trainer(experiment_name=recipe.experiment_name, ckpt_root_dir=recipe.ckpt_root_dir)
    metrics = OmegaConf.to_container(recipe.training_hyperparams.valid_metrics_list)
    return network, trainer.test(
        model=network, test_loader=loader_of(recipe, "val"), test_metrics_list=metrics, silent_mode=True
    )
