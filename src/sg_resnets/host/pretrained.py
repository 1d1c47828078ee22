"""Lets SuperGradients' `models.get`, and so its recipes, take pretrained weights for our networks."""

from collections.abc import Callable
from typing import Any

from super_gradients.common.environment.ddp_utils import get_local_rank
from super_gradients.training.models import model_factory
from super_gradients.training.utils.distributed_training_utils import wait_for_the_master

from sg_resnets.host.patching import Patch, Repair
from sg_resnets.host.repairs.names import registered_name
from sg_resnets.models import pretrained
from sg_resnets.models.zoo import ZOO
from sg_resnets.utils.errors import SgResnetsError


def load_weights(
    original: Callable[..., Any],
    model_name: str,
    arch_params: Any,
    num_classes: int | None,
    pretrained_weights: str | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Build the network as the weights were trained, load them strictly, then fit head and stem to what is asked
    for."""
    model_name = registered_name(model_name)
    if model_name not in ZOO or not pretrained_weights:
        return original(model_name, arch_params, num_classes, pretrained_weights, *args, **kwargs)
    with wait_for_the_master(get_local_rank()):  # of several processes one downloads
        weights = pretrained.load(model_name, pretrained_weights)
    params = dict(arch_params or {})
    num_classes = num_classes or params.pop("num_classes", None) or weights.num_classes
    channels = params.pop("in_channels", None)
    params["in_channels"] = weights.in_channels
    network = original(model_name, params, weights.num_classes, None, *args, **kwargs)
    changed = network.config.differences(ZOO[model_name].config)
    if changed:
        raise SgResnetsError(
            f"the {pretrained_weights} weights of {model_name} do not fit: leave out the arch_params that change the "
            f"network ({', '.join(changed)})"
        )
    network.load_state_dict(weights.state, strict=True)
    processing = weights.processing
    if num_classes != weights.num_classes:
        network.replace_head(new_num_classes=num_classes)
        processing = {"image_processor": processing["image_processor"]}
    if channels is not None and channels != network.get_input_channels():
        network.replace_input_channels(channels)
    network.set_dataset_processing_params(**processing)
    return network


REPAIRS = (
    Repair(
        "pretrained_weights",
        "models.get knows no weights of our networks",
        [Patch(model_factory, "instantiate_model", load_weights)],
    ),
)
