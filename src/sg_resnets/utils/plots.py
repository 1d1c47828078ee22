"""The palette of all pictures, and how they are made: figures without a display, saved whole."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.files import check_parent, whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by the colour-blind.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
TRAIN_COLOUR, TEST_COLOUR = COLOURS[:2]
SUFFIXES = (".png", ".svg", ".pdf")
DPI = 150


def new_figure(width: float, height: float, title: str = "") -> "Figure":
    """Return an empty figure of so many inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title)
    return figure


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure to a file of one of SUFFIXES."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format=path.suffix[1:])


def check_picture(path: Path) -> None:
    """Refuse a name that no picture can be written to.

    Raises:
        SgResnetsError: another suffix than those of SUFFIXES, or there is no such folder.
    """
    if path.suffix not in SUFFIXES:
        raise SgResnetsError(f"--output {path}: give a file that ends in .png, .svg or .pdf")
    check_parent(path)


def epoch_axis(axes: Any) -> None:
    """Label the x axis with whole epochs."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
