"""What today's numpy and Matplotlib no longer do for SuperGradients, and for DataGradients, which it imports."""

import json
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from data_gradients.utils import utils as data_gradients_utils
from super_gradients.training.utils.visualization import utils as visualization

from sg_resnets.host.patching import Patch, Put, Repair


def map_colours(original: Callable[..., Any], num_classes: int) -> list[tuple[int, ...]]:
    """Return a BGR colour for each class."""
    colours = plt.get_cmap("gist_rainbow", num_classes)
    return [tuple(int(value) for value in colours(i, bytes=True)[2::-1]) for i in range(num_classes)]


def to_plain(value: Any) -> Any:
    """Return numpy's numbers and arrays as JSON has them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON")


REPAIRS = (
    Repair(
        "colours",
        "matplotlib.cm.get_cmap is gone: pictures of detections cannot be drawn",
        [Patch(visualization, "generate_color_mapping", map_colours)],
    ),
    Repair(
        "json_of_numpy",
        "data adapters end in 'Object of type int64 is not JSON serializable'",
        [
            Put(
                data_gradients_utils,
                "json",
                SimpleNamespace(**{**vars(json), "dump": partial(json.dump, default=to_plain)}),
            )
        ],
    ),
)
