"""Which epochs' checkpoints a run keeps beside its latest and its best: `keep_last`, `keep_best`, `keep_every`."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sg_resnets.runs.find import LATEST
from sg_resnets.utils.checks import integer
from sg_resnets.utils.files import keep

logger = logging.getLogger(__name__)

_NAME = re.compile(r"ckpt_kept_epoch_(\d+)\.pth")


@dataclass
class Kept:
    """What is asked for, and the watched metric of the epochs that are kept.

    Attributes:
        last: keep the last so many epochs; 0 for none, as with the others.
        best: keep the so many best epochs.
        every: keep each so manieth epoch.
        greater_is_better: of the metric.
        figures: the metric by epoch, from 1.
    """

    last: int = 0
    best: int = 0
    every: int = 0
    greater_is_better: bool = True
    figures: dict[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, params: Mapping[str, Any], figures: Mapping[int, float] | None) -> "Kept":
        """Return what training parameters ask for, with the figures of the run that is resumed.

        Raises:
            SgResnetsError: one is no number of epochs.
        """
        asked = {key: integer(0)(f"keep_{key}", params.get(f"keep_{key}") or 0) for key in ("last", "best", "every")}
        return cls(
            **asked,
            greater_is_better=params.get("greater_metric_to_watch_is_better", True),
            figures=dict(figures or {}),
        )

    @property
    def is_asked_for(self) -> bool:
        """Whether anything is to be kept."""
        return bool(self.last or self.best or self.every)

    def add(self, epoch: int, figure: float) -> None:
        """Note an epoch's figure, and forget those of the epochs that are not kept any more."""
        self.figures = {each: value for each, value in self.figures.items() if each < epoch} | {epoch: figure}
        epochs = sorted(self.figures)
        sign = 1 if self.greater_is_better else -1
        by_figure = sorted(epochs, key=lambda each: (sign * self.figures[each], -each), reverse=True)
        wanted = {*epochs[-self.last :]} if self.last else set()
        wanted |= {*by_figure[: self.best]} if self.best else set()
        wanted |= {each for each in epochs if each % self.every == 0} if self.every else set()
        self.figures = {each: value for each, value in self.figures.items() if each in wanted}

    def settle(self, folder: Path, epoch: int) -> None:
        """Keep the run's latest checkpoint, of this epoch, if it is wanted, and remove those that are not any more. It
        is a second name of one file: it takes no time, and no space until the latest is another."""
        if not self.is_asked_for:
            return
        if epoch in self.figures and not (folder / LATEST).is_file():
            logger.warning(f"epoch {epoch} is not kept: the logger of this run writes no {LATEST} into {folder}")
        elif epoch in self.figures:
            keep(folder / LATEST, folder / f"ckpt_kept_epoch_{epoch}.pth", copied=True)
        for path in folder.glob("ckpt_kept_epoch_*.pth"):
            match = _NAME.fullmatch(path.name)
            if match and int(match[1]) not in self.figures:
                path.unlink()
