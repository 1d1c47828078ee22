"""Enters our models, data sets and callbacks in the host's registries."""

from typing import Any

from super_gradients.common.registry.registry import register_callback, register_model
from super_gradients.module_interfaces import SupportsInputShapeCheck
from super_gradients.training.models.classification_models.base_classifer import BaseClassifier
from super_gradients.training.utils import HpmStruct

from sg_resnets import data
from sg_resnets.config import ResNetConfig
from sg_resnets.diagnostics.callbacks import TrainingCurves
from sg_resnets.nn import ResNet
from sg_resnets.training import extend_trainer
from sg_resnets.zoo import ZOO

CUSTOM = "resnet_custom"  # `custom_resnet` is the host's
# Keys of a recipe's arch_params that are the host's own: it reads them itself, before and after the network is built.
_HOSTS_KEYS = ("num_input_channels", "model_name", "schema")


class RegisteredResNet(ResNet, BaseClassifier, SupportsInputShapeCheck):
    """A row of the zoo as the host builds it: `arch_params` override the row's configuration.

    Raises:
        SgResnetsError: `arch_params` has an unknown key or a value that makes no network.
    """

    row: ResNetConfig

    def __init__(self, arch_params: HpmStruct) -> None:
        given = arch_params.to_dict(include_schema=False)
        super().__init__(self.row.override(**{key: value for key, value in given.items() if key not in _HOSTS_KEYS}))


def register() -> None:
    """Register everything, once."""
    rows: dict[str, Any] = {name: row.config for name, row in ZOO.items()}
    rows[CUSTOM] = ZOO["resnet20_cifar"].config
    for name, config in rows.items():
        register_model(name)(type(name, (RegisteredResNet,), {"row": config, "__module__": __name__}))
    register_callback("TrainingCurves")(TrainingCurves)
    data.register()
    extend_trainer()
