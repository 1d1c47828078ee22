"""W&B, ClearML and DagsHub (MLflow): SuperGradients' loggers, whose packages are not installed with it; log files."""

import logging
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from super_gradients.common.sg_loggers import wandb_sg_logger
from super_gradients.common.sg_loggers.base_sg_logger import BaseSGLogger
from super_gradients.common.sg_loggers.wandb_sg_logger import WandBSGLogger
from super_gradients.training.sg_trainer.sg_trainer import Trainer

from sg_resnets.host.patching import Patch, Put, Repair
from sg_resnets.utils.errors import SgResnetsError

PACKAGES = {
    "wandb_sg_logger": ("wandb",),
    "clearml_sg_logger": ("clearml",),
    "dagshub_sg_logger": ("dagshub", "mlflow"),
}


def check_packages(logger: Any) -> None:
    """Refuse a logger whose packages are missing.

    Raises:
        SgResnetsError: names what to install.
    """
    missing = [package for package in PACKAGES.get(str(logger), ()) if find_spec(package) is None]
    if missing:
        raise SgResnetsError(f"sg_logger={logger} needs {' and '.join(missing)}: pip install {' '.join(missing)}")


def initialize_with_packages(original: Callable[..., None], self: Trainer, *args: Any, **kwargs: Any) -> None:
    """Say what is missing, in place of a NameError."""
    check_packages(self.training_params.sg_logger)
    original(self, *args, **kwargs)


def log_figure_as_image(
    original: Callable[..., None], self: WandBSGLogger, tag: str, figure: Any, global_step: int = 0
) -> None:
    """Log a figure as a picture: W&B makes an interactive one of it, for which it needs plotly, and not always can."""
    image = wandb_sg_logger.wandb.Image(figure)
    BaseSGLogger.add_figure(self, tag, figure, global_step)
    wandb_sg_logger.wandb.log({tag: image}, step=global_step)


_told: set[str] = set()


def say_once(self: logging.FileHandler, record: logging.LogRecord) -> None:
    """Say once that a log cannot be written, in place of a traceback for each line of it."""
    error = sys.exc_info()[1]
    if not isinstance(error, OSError):
        logging.Handler.handleError(self, record)
    elif self.baseFilename not in _told:
        _told.add(self.baseFilename)
        print(f"{self.baseFilename} cannot be written any more ({error.strerror or error})", file=sys.stderr)


REPAIRS = (
    Repair(
        "loggers",
        "the W&B, ClearML and DagsHub loggers end in a NameError without their packages; W&B's wants plotly for "
        "figures",
        [
            Patch(Trainer, "_initialize_sg_logger_objects", initialize_with_packages),
            Patch(WandBSGLogger, "add_figure", log_figure_as_image),
        ],
    ),
    Repair(
        "log_files",
        "with a full disk each line of a log is a traceback in the terminal",
        [Put(logging.FileHandler, "handleError", say_once)],
    ),
)
