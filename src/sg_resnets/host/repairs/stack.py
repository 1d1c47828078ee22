"""What today's numpy, Matplotlib and PyTorch no longer do for SuperGradients and DataGradients, which it imports."""

import itertools
import json
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from super_gradients import import_utils
from super_gradients.common.environment.device_utils import device_config
from super_gradients.training.models import conversion
from super_gradients.training.utils import distributed_training_utils as host_ddp
from super_gradients.training.utils.callbacks import callbacks
from super_gradients.training.utils.visualization import utils as visualization
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from sg_resnets.host.patching import Patch, Put, Rebind, Repair, WhenImported


def map_colours(original: Callable[..., Any], num_classes: int) -> list[tuple[int, ...]]:
    """Return a BGR colour for each class."""
    import matplotlib.pyplot as plt  # a second; only for pictures

    colours = plt.get_cmap("gist_rainbow", num_classes)
    return [tuple(int(value) for value in colours(i, bytes=True)[2::-1]) for i in range(num_classes)]


def to_plain(value: Any) -> Any:
    """Return numpy's numbers and arrays as JSON has them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON")


class Tracing:
    """torch for modules that export to ONNX: by tracing, as when they were written; today's way wants onnxscript."""

    onnx = SimpleNamespace(**{**vars(torch.onnx), "export": partial(torch.onnx.export, dynamo=False)})

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def average_statistics(
    original: Callable[..., None], model: nn.Module, loader: DataLoader, precise_bn_batch_size: int, num_gpus: int
) -> None:
    """Give batch-norm the mean of its statistics over some batches, on any device."""
    wanted = (precise_bn_batch_size or 0) // ((loader.batch_size or 1) * num_gpus) or num_gpus
    update_bn(itertools.islice(loader, min(wanted, len(loader))), model, device_config.device)
    norms = [norm for norm in model.modules() if isinstance(norm, _BatchNorm)] if num_gpus > 1 else []
    for statistics in (each for norm in norms for each in (norm.running_mean, norm.running_var) if each is not None):
        dist.all_reduce(statistics)
        statistics.div_(num_gpus)


_SURGEON = "import_onnx_graphsurgeon_or_install"
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
            WhenImported(
                "data_gradients.utils.utils",
                "json",
                SimpleNamespace(**{**vars(json), "dump": partial(json.dump, default=to_plain)}),
            )
        ],
    ),
    Repair(
        "onnx_export",
        "convert_to_onnx and ModelConversionCheckCallback want onnxscript; export() pip-installs what is gone",
        [
            *(Put(module, "torch", Tracing()) for module in (conversion, callbacks)),
            Rebind(
                _SURGEON,
                getattr(import_utils, _SURGEON),
                import_utils.import_onnx_graphsurgeon_or_fail_with_instructions,
            ),
        ],
    ),
    Repair(
        "precise_bn",
        "precise_bn: True calls .cuda() on a CPU",
        [Patch(host_ddp, "compute_precise_bn_stats", average_statistics)],
    ),
)
