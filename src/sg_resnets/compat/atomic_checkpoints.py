"""The host writes checkpoints in place: killed in the middle of a write, it leaves a broken `ckpt_latest.pth` and
nothing to resume from. Here each is written beside, and renamed when it is whole."""

import os
from contextlib import contextmanager

FAULT = "checkpoints are written in place (BaseSGLogger._save_checkpoint): a kill during the write loses the run"


def present() -> bool:
    import inspect

    from super_gradients.common.sg_loggers.base_sg_logger import BaseSGLogger

    return "os.replace" not in inspect.getsource(BaseSGLogger._save_checkpoint)


def repair() -> None:
    import torch
    from super_gradients.common.sg_loggers import base_sg_logger
    from super_gradients.training.utils import weight_averaging_utils

    from sg_resnets.errors import SgResnetsError

    class TorchSavingWhole:
        """torch for these two modules, but that `save` is atomic."""

        def __getattr__(self, name):
            return getattr(torch, name)

        @staticmethod
        def save(state, path):
            try:
                with whole_file(path) as beside:
                    torch.save(state, beside)
            except (OSError, RuntimeError) as error:
                why = getattr(error, "strerror", None) or str(error).splitlines()[0]
                raise SgResnetsError(f"{path} cannot be written ({why}): is the disk full?") from error

    for module in (base_sg_logger, weight_averaging_utils):
        module.torch = TorchSavingWhole()


@contextmanager
def whole_file(path):
    """Yields a path beside `path`, which becomes `path` at the end, or is removed if anything goes wrong."""
    beside = f"{path}.{os.getpid()}.tmp"
    try:
        yield beside
        os.replace(beside, path)
    except BaseException:
        if os.path.exists(beside):
            os.remove(beside)
        raise
