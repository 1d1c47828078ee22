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
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils import distributed_training_utils as host_ddp
from super_gradients.training.utils.callbacks import callbacks
from super_gradients.training.utils.utils import unwrap_model
from super_gradients.training.utils.visualization import utils as visualization
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
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
    """Give each batch-norm that learns the mean of its statistics over some batches, on any device; those that are
    frozen, which a network of ours leaves in eval mode, keep theirs."""
    wanted = (precise_bn_batch_size or 0) // ((loader.batch_size or 1) * num_gpus) or num_gpus
    was_training = model.training
    model.train()
    norms = [norm for norm in model.modules() if isinstance(norm, _BatchNorm) and norm.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    with torch.no_grad():
        for batch in itertools.islice(loader, min(wanted, len(loader))):
            model(batch[0].to(device_config.device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        for statistics in (norm.running_mean, norm.running_var) if num_gpus > 1 else ():
            if statistics is not None:
                dist.all_reduce(statistics)
                statistics.div_(num_gpus)
    model.train(was_training)


def mark_frozen(original: Callable[..., Any], self: Trainer, *args: Any, **kwargs: Any) -> Any:
    """Have the average's parameters say, as the network's, which of them are frozen: its batch-norms ask for that."""
    if self.ema and self.precise_bn:
        network = unwrap_model(self.net)
        for average, parameter in zip(self.ema_model.ema.parameters(), network.parameters(), strict=False):
            average.requires_grad_(parameter.requires_grad)
    return original(self, *args, **kwargs)


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
        "precise_bn: True calls .cuda() on a CPU; a moving average does not say which of its layers are frozen",
        [Patch(host_ddp, "compute_precise_bn_stats", average_statistics), Patch(Trainer, "_train_epoch", mark_frozen)],
    ),
)
