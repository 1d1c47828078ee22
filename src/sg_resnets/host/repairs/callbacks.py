"""Callbacks of SuperGradients that do not work from YAML, or on today's numpy."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from super_gradients.training.utils import early_stopping
from super_gradients.training.utils.callbacks import Phase

from sg_resnets.host.patching import Patch, Put, Repair


def take_phase_by_name(
    original: Callable[..., None], self: early_stopping.EarlyStop, phase: Phase | str, *args: Any, **kwargs: Any
) -> None:
    """Take the phase's name, as YAML gives it."""
    original(self, Phase.from_string(phase) if isinstance(phase, str) else phase, *args, **kwargs)


REPAIRS = (
    Repair(
        "early_stop",
        "EarlyStop uses np.Inf, which numpy 2 removed, and takes no phase from YAML",
        [
            Put(early_stopping, "np", SimpleNamespace(Inf=np.inf)),  # all that this module takes from numpy
            Patch(early_stopping.EarlyStop, "__init__", take_phase_by_name),
        ],
    ),
)
