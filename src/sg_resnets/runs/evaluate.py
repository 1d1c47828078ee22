"""Evaluate a checkpoint on the test data of its recipe."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from super_gradients import Trainer
from super_gradients.common.abstractions.abstract_logger import get_logger
from super_gradients.training.utils.callbacks import Phase, PhaseCallback, PhaseContext
from torch.utils.data import SequentialSampler

from sg_resnets.data.folder import contents
from sg_resnets.data.preprocessing import class_names_of
from sg_resnets.diagnostics.classification import Classification
from sg_resnets.quantization.graph import is_quantized
from sg_resnets.runs.build import (
    build_network,
    build_quantized,
    follow_split,
    loader_of,
    quiet,
    reads_folder,
    recipe_of,
)
from sg_resnets.runs.check import count_of
from sg_resnets.runs.checkpoints import load, refuse_other_classes
from sg_resnets.runs.curves import read_curves
from sg_resnets.runs.report import Report
from sg_resnets.utils.dotlist import parse_dotlist
from sg_resnets.utils.errors import SgResnetsError, choices

logger = get_logger(__name__)
SHOWN = 100  # classes up to which each has a line


class Collect(PhaseCallback):
    """Keeps what the network says of each batch that it is tested on."""

    def __init__(self) -> None:
        super().__init__(Phase.TEST_BATCH_END)
        self.probabilities: list[torch.Tensor] = []
        self.labels: list[torch.Tensor] = []

    def __call__(self, context: PhaseContext) -> None:
        self.probabilities.append(context.preds.float().softmax(1))
        self.labels.append(context.target)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found: the rows of a table, (what, value), over which it iterates; of images with one label
    each what the network said of them, and the page about it."""

    rows: list[tuple[str, str]]
    found: Classification | None = None
    page: Path | None = None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.rows)

    def lines(self) -> list[str]:
        """Return it as text; of many classes those alone that are found least."""
        lines = [f"{name:<18} {value}" for name, value in self.rows]
        if self.found is None:
            return lines
        classes = self.found.by_class()
        if len(classes) > SHOWN:
            classes = sorted(classes, key=lambda row: row.recall)[:SHOWN]
            lines += ["", f"the {SHOWN} classes with the lowest recall:"]
        width = max(5, *(len(row.name) for row in classes))
        lines += ["", f"{'class':<{width}}  precision  recall     F1  images"]
        lines += [
            f"{row.name:<{width}}  {row.precision:>9.4f}  {row.recall:.4f}  {row.f1:.4f}  {row.count:>6,}"
            for row in classes
        ]
        precision, recall, f1 = (self.found.mean(figure) for figure in ("precision", "recall", "f1"))
        lines.append(f"{'mean':<{width}}  {precision:>9.4f}  {recall:.4f}  {f1:.4f}  {len(self.found.labels):>6,}")
        return [*lines, "", f"report: {self.page}"] if self.page else lines


def start_from(recipe: Any, checkpoint: Path) -> None:
    """Make a recipe load this checkpoint of its own network, whatever its run once started from."""
    with open_dict(recipe):
        recipe.checkpoint_params.checkpoint_path = str(checkpoint)
        recipe.checkpoint_params.pretrained_weights = None
        recipe.checkpoint_params.checkpoint_num_classes = None


def evaluate_checkpoint(
    path: Path,
    plugins: Sequence[str] = (),
    split: str | None = None,
    root: Path | None = None,
    overrides: Sequence[str] = (),
) -> Evaluation:
    """Evaluate a checkpoint, a run's best or an experiment's, on its recipe's validation data; or of a folder of
    pictures on another `split` or `root`. The report is written beside the checkpoint.

    Raises:
        SgResnetsError: an override that is none, or data that the network does not know.
    """
    path, state = load(path)
    recipe = recipe_of(state, plugins)
    for override in overrides:
        key = override.partition("=")[0]
        if not key.startswith("dataset_params.val_") and OmegaConf.select(recipe, key, default=KeyError) is KeyError:
            raise SgResnetsError(f"'{override}' overrides nothing: {choices(key, recipe.dataset_params, limit=8)}")
    with open_dict(recipe):
        recipe.merge_with(parse_dotlist(overrides, "override", "dataset_params.val_dataset_params.size=256"))
    place_data(recipe, path.parent, split, root)
    quantized = is_quantized(state["net"])
    network = build_quantized(recipe, state) if quantized else build_network(recipe, path)
    collected = Collect()
    with quiet(logging.INFO):
        loader = loader_of(recipe, "val")
    missing = getattr(loader.dataset, "missing", 0)
    with quiet(), TemporaryDirectory() as folder:  # SuperGradients makes one; nothing is written into it
        names = class_names_of(loader.dataset)
        refuse_other_classes(path, state, names or [], is_final=True)
        results = Trainer(experiment_name=recipe.experiment_name, ckpt_root_dir=folder).test(
            model=network,
            test_loader=loader,
            test_metrics_list=OmegaConf.to_container(recipe.training_hyperparams.valid_metrics_list),
            test_phase_callbacks=[collected],
            silent_mode=True,
        )
    data, part = describe_data(recipe)
    rows = [
        ("model", recipe.architecture + (", quantised" if quantized else "")),
        ("parameters", f"{sum(p.numel() for p in network.parameters()):,}"),
        ("data", data),
        *([("missing", f"{count_of(missing, 'picture')} that the run had")] if missing else []),
        *((f"{part} {name}", f"{float(value):.4f}") for name, value in results.items()),
        *_training_of(path, state),
    ]
    labels, probabilities = torch.cat(collected.labels).cpu(), torch.cat(collected.probabilities).cpu()
    if labels.shape != probabilities.shape[:1] or labels.is_floating_point():
        return Evaluation(rows)
    columns = probabilities.shape[1]
    if names is None or len(names) != columns:
        names = [*map(str, range(columns))]
    found = Classification(names, labels.numpy(), probabilities.numpy())
    report = Report(f"{recipe.architecture} on {data}", rows, found, _files(loader, len(labels)))
    try:
        other = "_other" if root or overrides or missing else ""  # the run's own report stays
        page = report.write(path.parent / f"report_{part}{other}", network, loader.dataset)
    except SgResnetsError as error:
        logger.warning(f"no report: {error}")
        page = None
    return Evaluation(rows, found, page)


def place_data(recipe: Any, run: Path, split: str | None, root: Path | None) -> None:
    """Have a recipe evaluate on a part of its folder of pictures, or on all of another folder that has no parts; as
    they are, and as its run has split them."""
    data = recipe.dataset_params
    if not reads_folder(recipe, "val"):
        if split is not None or root is not None:
            raise SgResnetsError(
                "--split and --root are for folders of pictures, and the run was trained on other data"
            )
        return
    with open_dict(recipe):
        data.val_dataset_params.augmented = False  # the training part too
        if root is not None:
            data.train_dataset_params.root = data.val_dataset_params.root = str(root.expanduser().absolute())
            data.train_dataset_params.labels = data.val_dataset_params.labels = None
        follows = follow_split(recipe, run, everything=root is not None)
        if root is not None and split is None:
            if not follows and contents(root).is_split:
                split = "all"
            elif follows:
                logger.warning(
                    f"{root} has all files that the run has split: evaluated on those it was validated on; if they are "
                    "other pictures of the same names, add --split all"
                )
        if split is not None:
            data.val_dataset_params.split = split


def _files(loader: Any, count: int) -> list[str]:
    """The images' files, in the order in which a loader gives them; their numbers where that is not known."""
    samples = getattr(loader.dataset, "samples", None) or []
    is_listed = isinstance(loader.sampler, SequentialSampler) and len(samples) == count
    pairs = [each for each in samples if isinstance(each, tuple) and isinstance(each[0], str)] if is_listed else []
    return [file for file, *_ in pairs] if len(pairs) == count else [str(i) for i in range(count)]


def _training_of(path: Path, state: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The rows that say how a checkpoint was trained."""
    epochs = state.get("epoch", 0)
    curves = [record for record in read_curves(path.parent / "curves.csv") if record.epoch <= epochs]
    seconds = f", {curves[-1].seconds:.0f} s" if curves else ""
    rows = [("trained for", f"{epochs} epoch{'s' * (epochs != 1)}{seconds}")]
    if curves:
        rows.append(("peak memory", f"{curves[-1].peak_memory_mib:,.0f} MiB"))
    rows.append(("checkpoint", str(path)))
    return [*rows, ("curves", str(path.parent / "curves.png"))] if curves else rows


def describe_data(recipe: DictConfig) -> tuple[str, str]:
    """Return which images a recipe evaluates on, in words, and a word to put before a metric's name."""
    dataset, params = (
        recipe.dataset_params.val_dataloader_params.get("dataset"),
        recipe.dataset_params.val_dataset_params,
    )
    name = dataset or recipe.get("val_dataloader")
    if reads_folder(recipe, "val"):
        part = params.get("split") or ("train" if params.get("train") else "val")
        return f"{params.get('root')}, {part}", part
    return (
        (f"{name}, training images that were held out", "held-out")
        if params.get("train")
        else (f"{name}, test split", "test")
    )
