"""What a network gets right and wrong, as a page, a CSV of every picture, and JSON."""

import base64
import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from io import BytesIO
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from sg_resnets.data import ImageFolderImages, InMemoryImages
from sg_resnets.diagnostics.classification import Classification
from sg_resnets.diagnostics.grad_cam import grad_cam
from sg_resnets.utils.files import whole_file, write_bytes

GALLERY = 24  # mistakes that are shown
SIDE = 160  # pixels of a shown picture
NAMED = 40  # classes up to which the confusion matrix has names at its sides
NUMBERED = 20  # and numbers in it


@dataclass(frozen=True)
class Report:
    """What the page shows.

    Attributes:
        title: what was evaluated, on what.
        facts: the rows of its first table, (what, value).
        found: what the network said of each image.
        files: the path of each image, or its number in the data set.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    found: Classification
    files: Sequence[str]

    def write(self, place: Path, network: nn.Module, dataset: Any) -> Path:
        """Write `place`.html, .csv and .json; `dataset` gives the pictures of the gallery. Returns the page's path."""
        self._write_csv(place.with_suffix(".csv"))
        write_bytes(place.with_suffix(".json"), json.dumps(self.figures(), indent=1).encode())
        page = place.with_suffix(".html")
        write_bytes(page, self.page(place.name, self._gallery(network, dataset)).encode(errors="backslashreplace"))
        return page

    def figures(self) -> dict[str, Any]:
        """Return what the page shows as plain data; what cannot be divided is null."""
        found = self.found
        by_class = [
            {key: None if isinstance(value, float) and isnan(value) else value for key, value in asdict(row).items()}
            for row in found.by_class()
        ]
        return {
            "facts": dict(self.facts),
            "images": len(found.labels),
            "accuracy": found.accuracy,
            **{f"macro_{name}": found.mean(name) for name in ("precision", "recall", "f1")},
            "calibration_error": found.calibration_error(),
            "classes": by_class,
            "confusion": found.confusion().tolist(),
            "reliability": [asdict(each) for each in found.reliability()],
        }

    def _write_csv(self, path: Path) -> None:
        names, found = self.found.names, self.found
        columns = self.files, found.labels, found.predictions, found.confidences
        with (
            whole_file(path) as temporary,
            open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(("file", "label", "prediction", "probability"))
            for name, label, prediction, probability in zip(*columns, strict=True):
                writer.writerow((name, names[label], names[prediction], f"{probability:.4f}"))

    def _gallery(self, network: nn.Module, dataset: Any) -> list[dict[str, Any]]:
        """The surest mistakes: each picture as the network gets it, and with what speaks for the class it was given."""
        found, names = self.found, self.found.names
        places = found.worst_mistakes(GALLERY)
        if not places or not isinstance(dataset, InMemoryImages | ImageFolderImages):
            return []  # of others it is not known how to show them
        images = torch.stack([dataset[place][0] for place in places]).cpu()
        device = next(network.parameters()).device
        predictions = torch.from_numpy(found.predictions[places]).to(device)
        maps = grad_cam(network.eval(), images.to(device), predictions).cpu().numpy()
        scale, shift = (torch.tensor(each).view(-1, 1, 1) for each in (dataset.std, dataset.mean))
        pixels = (255 * (images * scale + shift)).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        return [
            {
                "picture": _as_url(picture),
                "map": _as_url(_overlaid(picture, map_)),
                "file": self.files[place],
                "label": names[found.labels[place]],
                "prediction": names[found.predictions[place]],
                "probability": float(found.confidences[place]),
            }
            for place, picture, map_ in zip(places, pixels, maps, strict=True)
        ]

    def page(self, name: str, gallery: Sequence[Mapping[str, Any]]) -> str:
        """Return the page: HTML with all in it."""
        from jinja2 import Environment

        text = files("sg_resnets.runs").joinpath("report.html.j2").read_text(encoding="utf-8")
        environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        environment.filters["share"] = lambda value: "–" if isnan(value) else f"{value:.3f}"
        found = self.found
        return environment.from_string(text).render(
            title=self.title,
            facts=self.facts,
            found=found,
            rows=found.by_class(),
            confused=list(found.most_confused(20)),
            matrix=_matrix(found),
            bins=found.reliability(),
            gallery=gallery,
            mistakes=int((found.predictions != found.labels).sum()),
            name=name,
        )


def _matrix(found: Classification) -> dict[str, Any]:
    """What the page draws of the confusion matrix, in pixels: its cells that are not empty, the darker the larger the
    share of the row."""
    confusion, count = found.confusion(), len(found.names)
    side = max(5.0, min(34.0, 620 / count))
    rows = confusion.sum(1)
    cells = [
        {
            "x": j * side,
            "y": i * side,
            "share": confusion[i, j] / rows[i],
            "number": int(confusion[i, j]),
            "right": i == j,
            "title": f"{found.names[i]} taken for {found.names[j]}: {confusion[i, j]:,} of {rows[i]:,}",
        }
        for i, j in np.argwhere(confusion).tolist()
    ]
    return {
        "cells": cells,
        "side": side,
        "size": side * count,
        "named": count <= NAMED,
        "numbered": count <= NUMBERED,
        "margin": 8 + 7 * max(map(len, found.names)) if count <= NAMED else 8,
    }


def _overlaid(picture: np.ndarray, map_: np.ndarray) -> np.ndarray:
    """The picture, uint8 (H, W, C), under a map from 0 to 1, (H, W), as uint8 (H, W, 3)."""
    from matplotlib import colormaps

    colours = colormaps["inferno"](map_)[..., :3] * 255
    grey = picture.mean(-1, keepdims=True)
    return (0.5 * grey + 0.5 * colours).astype(np.uint8)


def _as_url(pixels: np.ndarray) -> str:
    """A picture, uint8 (H, W, 1 or 3), as a JPEG inside a URL; small ones with their pixels to be seen."""
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    factor = SIDE / max(image.size)
    size = max(round(image.width * factor), 1), max(round(image.height * factor), 1)
    how = Image.Resampling.NEAREST if factor > 2 else Image.Resampling.BICUBIC
    buffer = BytesIO()
    image.resize(size, how).convert("RGB").save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
