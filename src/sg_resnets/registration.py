"""Enters our models, data sets and callbacks in the host's registries."""

from typing import Any

from super_gradients.common.registry.registry import (
    ARCHITECTURES,
    register_callback,
    register_loss,
    register_model,
    register_optimizer,
)
from super_gradients.module_interfaces import SupportsInputShapeCheck
from super_gradients.training.models.classification_models.base_classifer import BaseClassifier
from super_gradients.training.models.classification_models.resnet import CustomizedResnet
from super_gradients.training.utils import HpmStruct

from sg_resnets import data
from sg_resnets.config import ResNetConfig
from sg_resnets.diagnostics.callbacks import ActivationStatistics, GradientFlow, TrainingCurves
from sg_resnets.distillation.losses import METHODS, DistillationLoss
from sg_resnets.distillation.trainer import extend_kd_trainer
from sg_resnets.losses import BinaryCrossEntropy
from sg_resnets.muon import Muon
from sg_resnets.nn import ResNet
from sg_resnets.training import extend_trainer
from sg_resnets.weights import extend_model_factory
from sg_resnets.zoo import CUSTOM, ZOO

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


class CustomResNet(RegisteredResNet):
    """Any combination of `arch_params`, over resnet20_cifar. The host has a network of this name too: it is what those
    get who give `structure`, without which the host's cannot be built."""

    row = ZOO["resnet20_cifar"].config

    def __new__(cls, arch_params: HpmStruct | None = None) -> Any:
        if hasattr(arch_params, "structure"):
            return CustomizedResnet(arch_params)
        return super().__new__(cls)


def register() -> None:
    """Register everything, once."""
    for name, row in ZOO.items():
        cls = type(name, (RegisteredResNet,), {"row": row.config, "__module__": __name__})
        globals()[name] = register_model(name)(cls)  # where pickle looks for it
    ARCHITECTURES[CUSTOM] = CustomResNet
    for callback in (TrainingCurves, GradientFlow, ActivationStatistics):
        register_callback(callback.__name__)(callback)
    for loss in (*METHODS, DistillationLoss, BinaryCrossEntropy):
        register_loss(loss.__name__)(loss)
    register_optimizer("Muon")(Muon)
    data.register()
    extend_trainer()
    extend_kd_trainer()
    extend_model_factory()
