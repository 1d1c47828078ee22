"""Makes the data of the course's explorer, a page on which a student breaks a trained network with the mouse.

Plain and residual twins are trained with SuperGradients, measured, and written as ONNX files that take pictures and
gates; shallow to deep ones, with and without batch-norm, are trained for the curves of the page's slider. The same
command writes the same files.

    python -m sg_resnets.course.explorer_data
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment
from torch import Tensor

from sg_resnets.course import gates
from sg_resnets.course.experiments import KINDS
from sg_resnets.course.setups import COURSE, Job, Setup, load_images, train_all, untrained
from sg_resnets.data import InMemoryImages, in_memory
from sg_resnets.data.image_tensors import balanced_first
from sg_resnets.diagnostics import lesion
from sg_resnets.diagnostics.gradient_flow import first_to_last, gradient_flow
from sg_resnets.models import ResNet, named_blocks
from sg_resnets.runs.curves import EpochRecord
from sg_resnets.utils.errors import SgResnetsError, shown
from sg_resnets.utils.files import make_folder, write_bytes
from sg_resnets.utils.hooks import evaluating

NETWORKS = replace(COURSE, samples=None, epochs=8)
DEPTHS = (8, 20, 56)
SLIDER = (8, 14, 20, 32, 44, 56, 80, 110)
# A run whose loss is NaN or infinite ends with its epoch, and its curves stay.
STOP = (
    "training_hyperparams.phase_callbacks=[TrainingCurves,"
    "{EarlyStop:{phase:VALIDATION_EPOCH_END,monitor:CrossEntropyLoss,patience:1000}}]"
)
SEED = 0
SHOWN, CHECKED = 500, 8  # test pictures that the page has; so many of their logits are stored, for its tests
CALIBRATION, BATCH = 1024, 128  # training pictures: for INT8's ranges, and for the gradients
PICTURES_LICENCE = "FASHION_MNIST_LICENSE"
LICENCE = "Networks and figures: Apache-2.0. Pictures: Fashion-MNIST, (c) 2017 Zalando SE, MIT licence."


@dataclass(frozen=True)
class Pictures:
    """The test pictures as they are stored and as the networks take them, and the places of those that are shown."""

    stored: InMemoryImages
    reduced: InMemoryImages
    shown: np.ndarray

    @classmethod
    def of(cls, setup: Setup) -> "Pictures":
        stored, reduced = (in_memory(setup.dataset, train=False, size=size) for size in (None, setup.size))
        return cls(stored, reduced, balanced_first(stored.labels.numpy(), SHOWN))


def make(
    folder: Path,
    setup: Setup = NETWORKS,
    depths: Sequence[int] = DEPTHS,
    slider_setup: Setup = COURSE,
    slider: Sequence[int] = SLIDER,
) -> None:
    """Write all files of the explorer into `folder`.

    Args:
        setup, depths: of the networks that are written; of Fashion-MNIST at 14 pixels.
        slider_setup, slider: of those whose curves are.

    Raises:
        SgResnetsError: a file cannot be written, or the data is not there.
    """
    make_folder(folder, "--folder")
    data = Pictures.of(setup)
    with tempfile.TemporaryDirectory() as runs:
        networks = write_networks(folder, setup, depths, data, Path(runs))
        curves = train_curves(slider_setup, slider, Path(runs))
    pictures, labels = (tensor[data.shown].numpy() for tensor in (data.stored.images, data.stored.labels))
    write_bytes(folder / "pictures.bin", pictures.tobytes() + labels.astype(np.uint8).tobytes())
    write_json(folder / "networks.json", networks)
    write_json(folder / "depths.json", curves)
    write_bytes(folder / "README.md", card(networks, curves).encode())
    write_bytes(folder / PICTURES_LICENCE, files("sg_resnets.data").joinpath(PICTURES_LICENCE).read_bytes())


def card(networks: dict[str, Any], curves: dict[str, Any]) -> str:
    """Return the card, Markdown: what the files are, how they are made again, and what they showed."""
    environment = Environment(keep_trailing_newline=True)
    environment.tests["finite"] = math.isfinite
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}"
    environment.filters["short"] = lambda number: f"{float(f'{number:.2g}'):,g}"
    environment.filters["thousands"] = lambda count: f"{count:,}"
    text = files("sg_resnets.course").joinpath("explorer_card.md.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(networks=networks, curves=curves, calibration=CALIBRATION)


def write_json(path: Path, contents: Any) -> None:
    """Write numbers with six digits, and null for those that are NaN or infinite."""
    write_bytes(path, json.dumps(_rounded(contents), allow_nan=False, separators=(",", ":")).encode())


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


def write_networks(folder: Path, setup: Setup, depths: Sequence[int], data: Pictures, runs: Path) -> dict[str, Any]:
    """Train plain and residual networks of these depths and write their ONNX files; return what `networks.json`
    says."""
    order = [(kind, depth) for depth in sorted(depths, reverse=True) for kind in ("plain", "resnet")]  # longest first
    trained = train_all([_job(kind, depth, setup) for kind, depth in order], runs)
    calibration, _ = load_images(setup, train=True, count=CALIBRATION)
    rows = [
        {
            "name": f"{kind}{depth}",
            "kind": kind,
            "layers": depth,
            "blocks": list(named_blocks(one.network)),
            "parameters": sum(parameter.numel() for parameter in one.network.parameters()),
            **_write_files(folder, f"{kind}{depth}", one.network, calibration, data),
            **_measured(one.network, data),
        }
        for (kind, depth), one in zip(order, trained, strict=True)
    ]
    return {
        "classes": data.stored.class_names,
        "pictures": {"file": "pictures.bin", "count": len(data.shown), "side": data.stored.size},
        "training": {"recipe": setup.recipe, "dataset": setup.dataset, "epochs": setup.epochs, "seed": SEED},
        "tested": len(data.stored),
        "licence": LICENCE,
        "networks": sorted(rows, key=lambda row: row["layers"]),
    }


def _job(kind: str, depth: int, setup: Setup, *overrides: str) -> Job:
    return Job(f"{kind}20_cifar", SEED, (f"+arch_params.depth={depth}", *overrides), setup)


def _write_files(folder: Path, name: str, network: ResNet, calibration: Tensor, data: Pictures) -> dict[str, Any]:
    """Write both files of a network; return their names, sizes and accuracies, and how often the two agree."""
    paths = {"float": folder / f"{name}.onnx", "int8": folder / f"{name}_int8.onnx"}
    gates.write_float(network, paths["float"])
    gates.write_int8(network, calibration, paths["int8"])
    pictures, labels = data.stored.images.float().numpy(), data.stored.labels.numpy()
    answers = {kind: gates.run(path, pictures, *gates.as_trained(network))[0].argmax(1) for kind, path in paths.items()}

    def shares(true: np.ndarray) -> dict[str, float]:
        return {"test": true.mean().item(), "pictures": true[data.shown].mean().item()}

    said: dict[str, Any] = {}
    for kind, path in paths.items():
        accuracy = shares(answers[kind] == labels)
        said[kind] = {"file": path.name, "bytes": path.stat().st_size, "accuracy": accuracy}
    said["int8"]["agreement"] = shares(answers["int8"] == answers["float"])
    return said


@torch.no_grad()
def _measured(network: ResNet, data: Pictures) -> dict[str, Any]:
    """In PyTorch: the accuracy without each block, what that loses on average, and the logits of the first pictures."""
    images, labels = data.reduced.__getitems__(data.shown.tolist())
    accuracies = lesion.lesion(network, images, labels)
    with evaluating(network):
        logits = network(images[:CHECKED]).tolist()
    without = {block: accuracy for block, accuracy in accuracies.items() if block != "none"}
    return {"without": without, "mean_loss": lesion.mean_loss(accuracies), "logits": logits}


def train_curves(setup: Setup, depths: Sequence[int], runs: Path) -> dict[str, Any]:
    """Train each kind of network at each depth; return what `depths.json` says: the epochs, and before the first of
    them the L2 norm of the gradient at each block's output and weights, of one batch, and the first block's over the
    last one's."""
    order = [(kind, depth) for depth in sorted(depths, reverse=True) for kind in KINDS]
    jobs = [
        _job("resnet", depth, setup, *(f"+arch_params.{key}={value}" for key, value in KINDS[kind].items()), STOP)
        for kind, depth in order
    ]
    images, labels = load_images(setup, train=True, count=BATCH)
    networks: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    for (kind, depth), one in zip(order, train_all(jobs, runs), strict=True):
        untouched = untrained("resnet20_cifar", SEED, setup, depth=depth, **KINDS[kind])
        flow = gradient_flow(untouched, images, labels)
        networks[kind][str(depth)] = {
            "epochs": _columns(one.records),
            "gradient": {of: [getattr(block, of) for block in flow] for of in ("output", "weights")},
            "first_to_last": {of: first_to_last(flow, of) for of in ("output", "weights")},
        }
    training = {"recipe": setup.recipe, "dataset": setup.dataset, "samples": setup.samples}
    return {
        "depths": list(depths),
        "training": {**training, "epochs": setup.epochs, "seed": SEED},
        "licence": LICENCE,
        "networks": networks,
    }


def _columns(records: Sequence[EpochRecord]) -> dict[str, list[float]]:
    """A list of each figure, an entry for each epoch: losses in nats, accuracies in 0..1."""
    names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    return {name: [getattr(record, name) for record in records] for name in names}


def main() -> None:
    """Make the data."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", type=Path, default=Path("docs/explorer/data"), help="where the files go")
    folder = parser.parse_args().folder
    try:
        make(folder)
    except SgResnetsError as error:
        sys.exit(shown(error))


if __name__ == "__main__":
    main()
