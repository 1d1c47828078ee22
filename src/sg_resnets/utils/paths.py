"""Where our own files are, in a wheel and in a source tree."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def recipes_path() -> Path:
    """Return the folder of our Hydra recipes: inside the installed package, or at the top of the source tree."""
    installed = PACKAGE / "recipes"
    return installed if installed.is_dir() else PACKAGE.parents[1] / "recipes"


def pretrained_path() -> Path:
    """Return the folder of the checkpoints that we ship."""
    installed = PACKAGE / "pretrained"
    return installed if installed.is_dir() else PACKAGE.parents[1] / "checkpoints" / "pretrained"
