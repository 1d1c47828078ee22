"""Where our own files are, in a wheel and in a source tree, and where a run's are."""

from pathlib import Path

from sg_resnets.errors import SgResnetsError

PACKAGE = Path(__file__).parent


def recipes_path() -> Path:
    """The folder of our Hydra recipes: inside the installed package, or at the top of the source tree."""
    installed = PACKAGE / "recipes"
    return installed if installed.is_dir() else PACKAGE.parents[1] / "recipes"


def pretrained_path() -> Path:
    """The folder of the checkpoints that we ship."""
    installed = PACKAGE / "pretrained"
    return installed if installed.is_dir() else PACKAGE.parents[1] / "checkpoints" / "pretrained"


def our_recipes() -> list[Path]:
    """The recipes of ours that can be trained: those that say what they reach."""
    return [path for path in sorted(recipes_path().glob("*.yaml")) if "\n# Reaches:" in path.read_text()]


def known_recipes() -> list[str]:
    """The names of our recipes and of the host's, without importing the host."""
    from importlib.util import find_spec

    spec = find_spec("super_gradients")
    folders = [Path(folder, "recipes") for folder in (spec.submodule_search_locations or [] if spec else [])]
    hosts = sorted(path.stem for folder in folders for path in folder.glob("*.yaml"))
    return [path.stem for path in our_recipes()] + hosts


def find_run(path: Path, checkpoint: str) -> Path:
    """The run folder that `path` is, or the latest one in the experiment's folder that it is.

    Raises:
        SgResnetsError: there is no run with such a checkpoint.
    """
    candidates = [path, *sorted(path.glob("RUN_*"), reverse=True)]
    for folder in candidates:
        if (folder / checkpoint).is_file():
            return folder
    around = path if path.is_dir() else path.parent
    there = sorted({p.parent.parent.name for p in around.glob(f"*/RUN_*/{checkpoint}")})
    raise SgResnetsError(
        f"no run with {checkpoint} in {path}: give a run's folder, or its experiment's"
        + (f"; {around} holds {', '.join(there[:10])}" if there else "")
    )
