"""Training that gives the same twice, to the last bit."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sg_resnets.utils.errors import SgResnetsError

_OPERATION = re.compile(r"(\S+) does not have a deterministic implementation")


@contextmanager
def deterministic(asked: bool) -> Iterator[None]:
    """While open, if it is asked for, PyTorch computes with what gives the same twice alone.

    On a CPU it does so anyway, with the same number of threads. On a GPU cuDNN, cuBLAS and sums by atomic additions
    do not; they get slower.

    Raises:
        SgResnetsError: names an operation that cannot give the same twice.
    """
    if not asked:
        yield
        return
    before = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        operation = _OPERATION.search(str(error))
        if operation is None:
            raise
        raise SgResnetsError(
            f"deterministic=True: {operation[1]} gives other results each time, and PyTorch has no other "
            "implementation of it here: use another operation, or leave out training_hyperparams.deterministic"
        ) from error
    finally:
        torch.set_deterministic_debug_mode(before[0])
        torch.backends.cudnn.benchmark = before[1]
