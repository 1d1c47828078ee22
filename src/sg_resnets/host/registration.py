"""What SuperGradients' registries get from us: models, losses, the optimiser, callbacks, the distiller."""

from collections.abc import Sequence
from typing import Any

from super_gradients.common.registry.registry import (
    ARCHITECTURES,
    CALLBACKS,
    KD_ARCHITECTURES,
    LOSSES,
    METRICS,
    OPTIMIZERS,
)
from super_gradients.module_interfaces import SupportsInputShapeCheck
from super_gradients.training.losses import FocalLoss
from super_gradients.training.models.classification_models.base_classifer import BaseClassifier
from super_gradients.training.models.classification_models.resnet import CustomizedResnet
from super_gradients.training.utils import HpmStruct
from torch import Tensor, nn
from torch.nn import functional as F

from sg_resnets.distillation.losses import METHODS
from sg_resnets.host.callbacks import ActivationStatistics, GradientFlow, TrainingCurves
from sg_resnets.host.distillation import DistillationLoss, RegisteredDistiller
from sg_resnets.host.patching import Put, Repair
from sg_resnets.models import ResNet
from sg_resnets.models.config import ResNetConfig
from sg_resnets.models.zoo import CUSTOM, ZOO
from sg_resnets.training.losses import BinaryCrossEntropy, mean_over_images, weight_of_classes
from sg_resnets.training.metrics import MacroF1
from sg_resnets.training.muon import Muon
from sg_resnets.utils.errors import SgResnetsError

# Keys of a recipe's arch_params that SuperGradients reads itself, before and after the network is built.
_HOST_KEYS = ("num_input_channels", "model_name", "schema")


class RegisteredResNet(ResNet, BaseClassifier, SupportsInputShapeCheck):
    """A row of the zoo as SuperGradients builds it: `arch_params` override the row's configuration.

    Raises:
        SgResnetsError: `arch_params` has an unknown key or a value that makes no network.
    """

    row: ResNetConfig

    def __init__(self, arch_params: HpmStruct) -> None:
        params = arch_params.to_dict(include_schema=False)
        super().__init__(self.row.override(**{key: value for key, value in params.items() if key not in _HOST_KEYS}))


class CustomResNet(RegisteredResNet):
    """Any combination of `arch_params`, over resnet20_cifar. SuperGradients has a network of this name too: it is what
    those get who give `structure`, without which it cannot be built."""

    row = ZOO["resnet20_cifar"].config

    def __new__(cls, arch_params: HpmStruct | None = None) -> Any:
        if hasattr(arch_params, "structure"):
            return CustomizedResnet(arch_params)
        return super().__new__(cls)


class FocalLossOfClasses(FocalLoss):
    """Focal loss (Lin et al., 'Focal Loss for Dense Object Detection', 2017, equation 5) of logits (N, K) and labels
    (N,), or mixtures (N, K): each class is a yes-or-no question. `weight`: of each class, by which its images weigh in
    the mean.

    Raises:
        SgResnetsError: `loss_fcn` is no BCEWithLogitsLoss, or has no mean for the weights.
    """

    weight: Tensor | None

    def __init__(
        self,
        loss_fcn: nn.Module | None = None,
        gamma: float = 1.5,
        alpha: float = 0.25,
        weight: Sequence[float] | None = None,
    ) -> None:
        loss_fcn = nn.BCEWithLogitsLoss() if loss_fcn is None else loss_fcn
        if not isinstance(loss_fcn, nn.BCEWithLogitsLoss):
            raise SgResnetsError(
                f"FocalLoss: loss_fcn={type(loss_fcn).__name__}: leave it out, it is computed from BCEWithLogitsLoss"
            )
        reduction = loss_fcn.reduction
        super().__init__(loss_fcn, gamma, alpha)
        self.register_buffer("weight", weight_of_classes(weight))
        if weight is None:
            return
        if reduction != "mean":
            raise SgResnetsError(f"FocalLoss: weight is for a mean, not for reduction={reduction}: leave one out")
        self.reduction = "none"

    def forward(self, pred: Tensor, true: Tensor) -> Tensor:
        of_classes = F.one_hot(true, pred.shape[1]) if true.ndim == pred.ndim - 1 else true
        losses = super().forward(pred, of_classes.to(pred.dtype))
        return losses if self.weight is None else mean_over_images(losses, true, self.weight)


def _class_of(name: str, config: ResNetConfig) -> type[RegisteredResNet]:
    """Return the class of a row, where pickle looks for it."""
    cls = type(name, (RegisteredResNet,), {"row": config, "__module__": __name__})
    globals()[name] = cls
    return cls


ENTRIES = Repair(
    "registries",
    "no residual networks of ours, no losses, callbacks and optimiser for them; FocalLoss is not registered",
    [
        *(Put(ARCHITECTURES, name, _class_of(name, row.config)) for name, row in ZOO.items()),
        Put(ARCHITECTURES, CUSTOM, CustomResNet),
        Put(KD_ARCHITECTURES, "distiller", RegisteredDistiller),
        *(Put(LOSSES, loss.__name__, loss) for loss in (*METHODS, BinaryCrossEntropy)),
        Put(LOSSES, "DistillationLoss", DistillationLoss),
        Put(LOSSES, "FocalLoss", FocalLossOfClasses),
        *(
            Put(CALLBACKS, callback.__name__, callback)
            for callback in (TrainingCurves, GradientFlow, ActivationStatistics)
        ),
        Put(OPTIMIZERS, "Muon", Muon),
        Put(METRICS, "MacroF1", MacroF1),
    ],
)
