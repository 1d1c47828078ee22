"""Lets the host's KDTrainer distil with a `Distiller`: checks before anything is written, EMA of the student,
`ckpt_best` without the teacher, and the teacher's accuracy beside the student's."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from super_gradients.common.abstractions.abstract_logger import get_logger
from super_gradients.common.environment.device_utils import device_config
from super_gradients.common.factories.losses_factory import LossesFactory
from super_gradients.common.sg_loggers.base_sg_logger import BaseSGLogger
from super_gradients.training.kd_trainer.kd_trainer import KDTrainer
from super_gradients.training.metrics.metric_utils import get_metrics_results_tuple, get_metrics_titles
from super_gradients.training.models import model_factory
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils.callbacks import Callback, PhaseContext
from super_gradients.training.utils.ema import ModelEMA
from super_gradients.training.utils.utils import unwrap_model
from torch.utils.data import DataLoader

from sg_resnets.compat import recipe_of_a_run
from sg_resnets.compat.patching import wrap_function, wrap_method
from sg_resnets.distillation.distiller import Distiller, arguments_of
from sg_resnets.distillation.losses import DistillationLoss
from sg_resnets.distillation.student import is_distillation, student_alone
from sg_resnets.errors import SgResnetsError
from sg_resnets.training import check_data

logger = get_logger(__name__)


class TeacherBeside(Callback):
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
            self.metrics.reset()

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
        with open(Path(context.ckpt_dir, "teacher.json"), "w") as file:
            json.dump({"parameters": parameters, **self.teachers}, file)

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
    network: Distiller, training_params: Mapping[str, Any], train_loader: DataLoader | None, valid_loader: DataLoader
) -> dict[str, Any]:
    """Run a few images through networks and loss before anything is written, and add what training needs.

    Raises:
        SgResnetsError: the two networks, their taps, the data or the loss do not fit.
    """
    new_head = any(getattr(module, "head_is_new", False) for module in network.teacher.modules())
    if recipe_of_a_run.with_recipe({}) and new_head:
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
        with arguments_of("student"):
            check_data(network.student, train_loader, valid_loader)
    loss = params.get("loss")
    if isinstance(loss, str):
        loss = {loss: params.get("criterion_params") or {}}
    criterion = LossesFactory().get(loss)
    network.to(device_config.device)
    images, labels = (tensor[:4].to(device_config.device) for tensor in next(iter(valid_loader))[:2])
    network.validate_input_shape(images.shape)
    output = network.fit_to(images)
    if isinstance(criterion, DistillationLoss):
        if criterion.method.uses_taps and not output.student_features:
            raise SgResnetsError(
                f"{type(criterion.method).__name__} compares features: say which, such as "
                "distillation.taps.student=layer2 distillation.taps.teacher=layer2"
            )
        _try(criterion, output, labels)
        params["phase_callbacks"] = [*(params.get("phase_callbacks") or []), TeacherBeside()]
    return params


def _try(criterion: DistillationLoss, output: Any, labels: Any) -> None:
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


def extend_kd_trainer() -> None:
    """Enter all of this in the host."""

    def by_the_right_trainer(original):
        def train_from_config(cls, cfg):
            if cls is Trainer and is_distillation(cfg):
                return KDTrainer.train_from_config(cfg)
            return original(cls, cfg)

        return train_from_config

    def with_checks(original):
        def train(self, model, training_params=None, train_loader=None, valid_loader=None, *args, **kwargs):
            if isinstance(model, Distiller):
                training_params = prepare_distillation(model, training_params, train_loader, valid_loader)
            return original(self, model, training_params, train_loader, valid_loader, *args, **kwargs)

        return train

    def of_all_that_learns(original):
        def _instantiate_ema_model(self, ema_params):
            if isinstance(unwrap_model(self.net), Distiller):
                return ModelEMA.from_params(self.net, **ema_params)
            return original(self, ema_params)

        return _instantiate_ema_model

    def without_teacher(original):
        def add_checkpoint(self, tag, state_dict, global_step=None):
            if tag != "ckpt_latest.pth":  # from which the whole run is resumed
                state_dict = student_alone(recipe_of_a_run.with_recipe(state_dict))
            return original(self, tag, state_dict, global_step)

        return add_checkpoint

    def with_the_classes(original):
        """KDTrainer gives the number of classes in arch_params alone, so that checkpoint_num_classes fails."""

        def get(model_name, arch_params=None, num_classes=None, *args, **kwargs):
            if kwargs.get("checkpoint_num_classes") and arch_params:
                num_classes = num_classes or arch_params.get("num_classes")
            return original(model_name, arch_params, num_classes, *args, **kwargs)

        return get

    wrap_function(model_factory, "get", with_the_classes)
    wrap_method(Trainer, "train_from_config", by_the_right_trainer)
    wrap_method(Trainer, "train", with_checks)
    wrap_method(KDTrainer, "_instantiate_ema_model", of_all_that_learns)
    wrap_method(BaseSGLogger, "add_checkpoint", without_teacher)
