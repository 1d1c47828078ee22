"""Distillation by SuperGradients' KDTrainer: checks before anything is written, EMA of the student, the loss from YAML,
and the teacher's accuracy beside the student's."""

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from super_gradients.common.abstractions.abstract_logger import get_logger
from super_gradients.common.decorators.factory_decorator import resolve_param
from super_gradients.common.environment.device_utils import device_config
from super_gradients.common.factories.losses_factory import LossesFactory
from super_gradients.module_interfaces import SupportsInputShapeCheck
from super_gradients.training.kd_trainer.kd_trainer import KDTrainer
from super_gradients.training.metrics.metric_utils import get_metrics_results_tuple, get_metrics_titles
from super_gradients.training.models import SgModule, model_factory
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils import HpmStruct
from super_gradients.training.utils.callbacks import Callback, PhaseContext
from super_gradients.training.utils.ema import ModelEMA
from super_gradients.training.utils.utils import unwrap_model
from torch import nn
from torch.utils.data import DataLoader

from sg_resnets.distillation import losses
from sg_resnets.distillation.distiller import Distiller
from sg_resnets.host.current_run import current_run
from sg_resnets.host.patching import Patch, Repair
from sg_resnets.host.trainer import check_data
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.files import write_bytes

logger = get_logger(__name__)


def _plain(value: Any) -> Any:
    """Return a part of a recipe as plain containers."""
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


class RegisteredDistiller(Distiller, SgModule, SupportsInputShapeCheck):
    """A `Distiller` as SuperGradients builds it: `arch_params` has `taps` and `teacher_input`."""

    def __init__(
        self, arch_params: HpmStruct, student: nn.Module, teacher: nn.Module, run_teacher_on_eval: bool = True
    ) -> None:
        taps, teacher_input = (_plain(getattr(arch_params, key, None)) for key in ("taps", "teacher_input"))
        super().__init__(student, teacher, taps, teacher_input)


class DistillationLoss(losses.DistillationLoss):
    """The loss whose task is named: {CrossEntropyLoss: {smooth_eps: 0.1}}."""

    __init__ = resolve_param("task", LossesFactory())(losses.DistillationLoss.__init__)


class TeacherFigures(Callback):
    """Tells the loss which epoch it is; evaluates the teacher with the first validation, and logs its metrics, to
    `teacher.json` too. Warns when the student is as good."""

    def __init__(self) -> None:
        self.teachers: dict[str, float] = {}
        self.metrics: Any = None
        self.warned = False

    def on_train_loader_start(self, context: PhaseContext) -> None:
        context.criterion.epoch = context.epoch + 1

    def on_validation_loader_start(self, context: PhaseContext) -> None:
        if not self.teachers:
            self.metrics = copy.deepcopy(context.valid_metrics)
            self.metrics.to(context.device).reset()

    def on_validation_batch_end(self, context: PhaseContext) -> None:
        if self.metrics is not None:
            self.metrics.update(**{**context.__dict__, "preds": context.preds.teacher_output})

    def on_validation_loader_end(self, context: PhaseContext) -> None:
        if self.metrics is not None:
            values = map(float, get_metrics_results_tuple(self.metrics))
            self.teachers = dict(zip(get_metrics_titles(self.metrics), values, strict=True))
            self.metrics = None
            if not context.ddp_silent_mode:
                self._tell(context)
        self._compare(context)

    def _tell(self, context: PhaseContext) -> None:
        teacher = unwrap_model(context.net).teacher
        parameters = sum(p.numel() for p in teacher.parameters())
        for name, value in self.teachers.items():
            context.sg_logger.add_scalar(f"Teacher_{name}", value, context.epoch)
        figures = ", ".join(f"{name} {value:.4f}" for name, value in self.teachers.items())
        logger.info(f"The teacher, {parameters:,} parameters: {figures}")
        contents = json.dumps({"parameters": parameters, **self.teachers})
        write_bytes(Path(context.ckpt_dir, "teacher.json"), contents.encode())

    def _compare(self, context: PhaseContext) -> None:
        name = context.metric_to_watch
        if self.warned or context.ddp_silent_mode or name not in self.teachers:
            return
        student, teacher = float(context.metrics_dict[name]), self.teachers[name]
        greater_is_better = context.training_params.greater_metric_to_watch_is_better
        if student == teacher or (student > teacher) == greater_is_better:
            self.warned = True
            logger.warning(
                f"The student has reached its teacher ({name} {student:.4f}, teacher {teacher:.4f}): it can gain "
                "little more from it, and may be held back. Take a better teacher, or a smaller distillation.weight."
            )


def prepare_distillation(
    network: Distiller, training_params: Mapping[str, Any], train_loader: DataLoader | None, valid_loader: Any
) -> dict[str, Any]:
    """Run a few images through networks and loss before anything is written, and add what training needs.

    Raises:
        SgResnetsError: the two networks, their taps, the data or the loss do not fit.
    """
    new_head = any(getattr(module, "head_is_new", False) for module in network.teacher.modules())
    if current_run() is not None and new_head:
        raise SgResnetsError(
            "the teacher's weights are for another number of classes, so its classifier is new and knows nothing: "
            "train it on these classes first, and give that run as teacher_checkpoint_params.checkpoint_path"
        )
    params = dict(training_params)
    if params.get("finetune"):
        raise SgResnetsError(
            "training_hyperparams.finetune=True freezes the student's body, which is to learn from the teacher: leave "
            "it out, and start from weights with student_checkpoint_params and a small lr"
        )
    if train_loader is not None:
        check_data(network.student, train_loader, valid_loader)
    loss = params.get("loss")
    if isinstance(loss, str):
        loss = {loss: params.get("criterion_params") or {}}
    criterion = LossesFactory().get(loss)
    network.to(device_config.device)
    images, labels = (tensor[:4].to(device_config.device) for tensor in next(iter(valid_loader))[:2])
    network.validate_input_shape(images.shape)
    output = network.fit_to(images)
    if isinstance(criterion, losses.DistillationLoss):
        if criterion.method.uses_taps and not output.student_features:
            raise SgResnetsError(
                f"{type(criterion.method).__name__} compares features: say which, such as "
                "distillation.taps.student=layer2 distillation.taps.teacher=layer2"
            )
        try_loss(criterion, output, labels)
        params["phase_callbacks"] = [*(params.get("phase_callbacks") or []), TeacherFigures()]
    return params


def try_loss(criterion: losses.DistillationLoss, output: Any, labels: Any) -> None:
    """Compute the loss of a few images.

    Raises:
        SgResnetsError: the method does not fit what the two networks give.
    """
    try:
        criterion(output, labels)
    except RuntimeError as error:
        shapes = "; ".join(
            f"student {tuple(s.shape)}, teacher {tuple(t.shape)}"
            for s, t in zip(output.student_features, output.teacher_features, strict=True)
        )
        raise SgResnetsError(
            f"{type(criterion.method).__name__} does not fit these networks ({shapes or error}): choose taps of the "
            "same shape, or set distillation.taps.regressor=True"
        ) from error


def train_distiller(
    original: Callable[..., Any],
    self: Trainer,
    model: nn.Module,
    training_params: Any = None,
    train_loader: DataLoader | None = None,
    valid_loader: DataLoader | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Try a distillation out before it is trained."""
    if isinstance(model, Distiller):
        training_params = prepare_distillation(model, training_params, train_loader, valid_loader)
    return original(self, model, training_params, train_loader, valid_loader, *args, **kwargs)


def average_all_that_learns(original: Callable[..., Any], self: KDTrainer, ema_params: Mapping[str, Any]) -> Any:
    """Average student and regressors; SuperGradients' KDModelEMA keeps a copy of the teacher too."""
    if isinstance(unwrap_model(self.net), Distiller):
        return ModelEMA.from_params(self.net, **ema_params)
    return original(self, ema_params)


def pass_number_of_classes(
    original: Callable[..., Any],
    model_name: str,
    arch_params: Any = None,
    num_classes: int | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """KDTrainer gives the number of classes in arch_params alone, so that checkpoint_num_classes fails."""
    if kwargs.get("checkpoint_num_classes") and arch_params:
        num_classes = num_classes or arch_params.get("num_classes")
    return original(model_name, arch_params, num_classes, *args, **kwargs)


REPAIRS = (
    Repair(
        "distillation",
        "KDTrainer knows one loss, tries nothing out before it writes, averages the teacher too, and cannot put a new "
        "head on a student's checkpoint",
        [
            Patch(model_factory, "get", pass_number_of_classes),
            Patch(Trainer, "train", train_distiller),
            Patch(KDTrainer, "_instantiate_ema_model", average_all_that_learns),
        ],
    ),
)
