"""Which run, and which of its checkpoints, a path means.

A run is a folder `<ckpt_root_dir>/<experiment>/RUN_<time>` with checkpoints and `.hydra/config.yaml`.
"""

from pathlib import Path

from sg_resnets.utils.errors import MissingFileError

BEST, LATEST = "ckpt_best.pth", "ckpt_latest.pth"
FINISHED = Path(".hydra", "finished")  # an empty file of a run that has written all that it writes


def runs_with(path: Path, *files: str) -> list[Path]:
    """Return the runs that have these files, the latest first: the run that `path` is, or those of the experiment."""
    folders = [path, *sorted(path.glob("RUN_*"), reverse=True)]
    return [folder for folder in folders if all((folder / file).is_file() for file in files)]


def is_finished(run: Path) -> bool:
    """Whether a run has come to its end, with all of its files."""
    return (run / FINISHED).is_file()


def find_run(path: Path, checkpoint: str) -> Path:
    """Return the run that `path` is, or the latest one in the experiment's folder that it is.

    Raises:
        MissingFileError: there is no run with such a checkpoint.
    """
    runs = runs_with(path, checkpoint)
    if runs:
        return runs[0]
    parent = path if path.is_dir() else path.parent
    names = sorted({file.parent.parent.name for file in parent.glob(f"*/RUN_*/{checkpoint}")})
    raise MissingFileError(
        f"no run with {checkpoint} in {path}: give a run's folder, or its experiment's"
        + (f"; {parent} holds {', '.join(names[:10])}" if names else "")
    )


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint that `path` is, or that a run's or an experiment's folder stands for: the best one, or of a
    run that was stopped before its first validation, the latest.

    Raises:
        MissingFileError: there is none.
    """
    if path.is_dir():
        best, latest = runs_with(path, BEST), runs_with(path, LATEST)
        if latest and not best:
            return latest[0] / LATEST
        return find_run(path, BEST) / BEST
    if not path.is_file():
        others = sorted(file.name for file in path.parent.glob("*.pth")) if path.parent.is_dir() else []
        found = f"there are {', '.join(others)}" if others else "give a checkpoint, a run's folder, or its experiment's"
        raise MissingFileError(f"no checkpoint at {path}: {found}")
    return path
