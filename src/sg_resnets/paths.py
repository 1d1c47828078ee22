"""Where our own files are, in a wheel and in a source tree."""

from pathlib import Path

PACKAGE = Path(__file__).parent


def recipes_path() -> Path:
    """The folder of our Hydra recipes: inside the installed package, or at the top of the source tree."""
    installed = PACKAGE / "recipes"
    return installed if installed.is_dir() else PACKAGE.parents[1] / "recipes"
