"""A student and its teacher as one network that the host's KDTrainer trains.

The teacher is held but is no part of it: not in its parameters, its state dict, its copies (EMA) or what distributed
training synchronises. It is frozen, and in eval mode always. Features are tapped by module path with forward hooks
that exist only while the networks run, so networks need no change and no copy has a hook of another.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from super_gradients.common.registry.registry import register_kd_model
from super_gradients.module_interfaces import SupportsInputShapeCheck
from super_gradients.training.models import SgModule
from super_gradients.training.utils import HpmStruct
from torch import Tensor, nn

from sg_resnets.errors import SgResnetsError, choices, whole_number


class DistillationOutput(NamedTuple):
    """Logits (N, K) of both, and their features, one tensor for each tap; the host's losses and metrics read the first
    two by their names."""

    student_output: Tensor
    teacher_output: Tensor
    student_features: Sequence[Tensor] = ()
    teacher_features: Sequence[Tensor] = ()


class Teacher:
    """Holds a frozen network so that its holder neither registers nor copies it."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval().requires_grad_(False)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Teacher":
        return self


class InputAdapter(nn.Module):
    """Turns the student's images into those that the teacher was trained with.

    Args:
        student, teacher: {mean: [...], std: [...]}, how the images of each are normalised, one value a channel; a
            grey image is repeated for a teacher of more channels.
        size: height and width that the teacher wants, in pixels; None leaves them.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        student: Mapping[str, Sequence[float]] | None = None,
        teacher: Mapping[str, Sequence[float]] | None = None,
        size: int | None = None,
    ) -> None:
        super().__init__()
        if (student is None) != (teacher is None):
            raise SgResnetsError("teacher_input needs both student: {mean, std} and teacher: {mean, std}, or neither")
        self.size = size if size is None else whole_number("teacher_input.size", size, 1)
        scale, shift = torch.ones(1), torch.zeros(1)
        if student is not None and teacher is not None:
            mean, std, wanted_mean, wanted_std = (
                _per_channel(of, key) for of in (student, teacher) for key in ("mean", "std")
            )
            scale, shift = std / wanted_std, (mean - wanted_mean) / wanted_std
        self.register_buffer("scale", scale.view(1, -1, 1, 1))
        self.register_buffer("shift", shift.view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C of the teacher, size, size)."""
        images = images * self.scale + self.shift
        if self.size is None or images.shape[-2:] == (self.size, self.size):
            return images
        return F.interpolate(images, size=(self.size, self.size), mode="bilinear", antialias=True)


def _per_channel(normalisation: Mapping[str, Sequence[float]], key: str) -> Tensor:
    """(C,), of {mean, std}."""
    try:
        values = torch.tensor([float(value) for value in normalisation[key]])
    except (KeyError, TypeError, ValueError):
        raise SgResnetsError(
            f"teacher_input: a network's images are described by {{mean: [0.5], std: [0.5]}}, a number a channel, "
            f"not by {dict(normalisation)}"
        ) from None
    if key == "std" and not (values > 0).all():
        raise SgResnetsError(f"teacher_input: std={values.tolist()}: must be above 0")
    return values


@register_kd_model("distiller")
class Distiller(SgModule, SupportsInputShapeCheck):
    """Runs both networks on a batch, (N, C, H, W), and returns a `DistillationOutput`.

    Args:
        arch_params: `taps`: {student: path or list of paths, teacher: as many, regressor: whether 1x1 convolutions
            bring the student's features to the teacher's channels}; `teacher_input`: arguments of `InputAdapter`.
        student: any network of the host.
        teacher: any network that takes the same images and has the same classes.

    Raises:
        SgResnetsError: a tap that does not exist, or not as many for the one as for the other.
    """

    def __init__(
        self, arch_params: HpmStruct, student: nn.Module, teacher: nn.Module, run_teacher_on_eval: bool = True
    ) -> None:
        super().__init__()
        taps = _plain(getattr(arch_params, "taps", None))
        self.student = student
        self._student_taps = _taps(student, "student", taps.get("student"))
        self._teacher_taps = _taps(teacher, "teacher", taps.get("teacher"))
        if len(self._student_taps) != len(self._teacher_taps):
            raise SgResnetsError(
                f"taps: {len(self._student_taps)} of the student ({', '.join(self._student_taps)}) and "
                f"{len(self._teacher_taps)} of the teacher ({', '.join(self._teacher_taps)}): give as many of each"
            )
        self._wants_regressors = bool(taps.get("regressor"))
        adapter = _plain(getattr(arch_params, "teacher_input", None))
        if adapter:
            if unknown := set(adapter) - {"student", "teacher", "size"}:
                raise SgResnetsError(f"teacher_input has no {', '.join(unknown)}: it takes student, teacher and size")
            teacher = nn.Sequential(InputAdapter(**adapter), teacher)
            self._teacher_taps = [f"1.{path}" for path in self._teacher_taps]
        self._teacher = Teacher(teacher)
        self.regressors = nn.ModuleList()

    @property
    def teacher(self) -> nn.Module:
        return self._teacher.network

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Distiller":
        self.teacher._apply(fn, recurse)  # to(device) and the like reach the teacher too
        return super()._apply(fn, recurse)

    def forward(self, images: Tensor) -> DistillationOutput:
        with torch.no_grad(), _collected(self.teacher, self._teacher_taps) as teacher_features:
            teacher_output = self.teacher(images)
        with _collected(self.student, self._student_taps) as student_features:
            student_output = self.student(images)
        if self.regressors:
            student_features = [r(f) for r, f in zip(self.regressors, student_features, strict=True)]
        return DistillationOutput(student_output, teacher_output, student_features, teacher_features)

    @torch.no_grad()
    def fit_to(self, images: Tensor) -> DistillationOutput:
        """Make the regressors that the features of these images ask for; returns what comes of the images.

        Raises:
            SgResnetsError: the two networks have other numbers of classes, or features of other sizes.
        """
        self.eval()
        try:
            output = self(images)
        except RuntimeError as error:
            raise SgResnetsError(
                f"student and teacher do not both take batches of {_shape(images)}, {str(error).splitlines()[0]}: "
                "see student_arch_params, teacher_arch_params and arch_params.teacher_input"
            ) from error
        classes = [getattr(logits, "shape", ())[1:] for logits in (output.student_output, output.teacher_output)]
        if classes[0] != classes[1] or len(classes[0]) != 1:
            raise SgResnetsError(
                f"the student gives {_shape(output.student_output)} and the teacher {_shape(output.teacher_output)} "
                "for a batch: both must be classifiers with the same classes"
            )
        pairs = list(zip(output.student_features, output.teacher_features, strict=True))
        for student_tap, (student, teacher) in zip(self._student_taps, pairs, strict=True):
            if student.shape[2:] != teacher.shape[2:]:
                raise SgResnetsError(
                    f"taps: the student's {student_tap} gives {_shape(student)} and the teacher's tap "
                    f"{_shape(teacher)}: choose taps of the same height and width"
                )
        if self._wants_regressors:
            for tap, (student, _) in zip(self._student_taps, pairs, strict=True):
                if student.ndim != 4:
                    raise SgResnetsError(
                        f"taps: a regressor takes feature maps (N, C, H, W), and the student's {tap} gives "
                        f"{_shape(student)}: choose another tap, or set distillation.taps.regressor=False"
                    )
            self.regressors.extend(
                nn.Conv2d(student.shape[1], teacher.shape[1], kernel_size=1, device=student.device)
                for student, teacher in pairs
            )
            output = self(images)
        return output

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As usual; a student's weights alone go into the student."""
        if not any(key.startswith("student.") for key in state_dict):
            return self.student.load_state_dict(state_dict, *args, **kwargs)
        return super().load_state_dict(state_dict, *args, **kwargs)

    # What the host asks of a network.

    def validate_input_shape(self, input_shape: Sequence[int]) -> None:
        """A teacher behind an adapter is tried out in `fit_to` alone."""
        for whose, network in (("student", self.student), ("teacher", self.teacher)):
            if isinstance(network, SupportsInputShapeCheck):
                with arguments_of(whose):
                    network.validate_input_shape(input_shape)

    def get_input_channels(self) -> int:
        return self.student.get_input_channels()  # type: ignore[operator]

    def replace_input_channels(self, *args: Any, **kwargs: Any) -> None:
        raise SgResnetsError("give the student its input channels before it is distilled: student_arch_params")


@contextmanager
def arguments_of(whose: str) -> Iterator[None]:
    """Errors that speak of `arch_params` speak of the student's, or of the teacher's."""
    try:
        yield
    except SgResnetsError as error:
        raise SgResnetsError(f"the {whose}: {error}".replace(" arch_params.", f" {whose}_arch_params.")) from None


def _plain(value: Any) -> dict[str, Any]:
    """A part of a recipe as a plain dict; nothing is an empty one."""
    from omegaconf import OmegaConf

    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    return dict(value or {})


def _taps(network: nn.Module, whose: str, paths: str | Sequence[str] | None) -> list[str]:
    listed = [paths] if isinstance(paths, str) else list(paths or [])
    modules = [name for name, _ in network.named_modules() if name]
    outer = [name for name in modules if "." not in name]
    for path in listed:
        if path not in modules:
            valid = choices(path, sorted(modules, key=lambda name: "." in name), limit=len(outer))
            raise SgResnetsError(f"taps: the {whose} has no module '{path}': {valid}")
    return listed


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


@contextmanager
def _collected(network: nn.Module, paths: Sequence[str]) -> Iterator[list[Tensor]]:
    """The outputs of the modules at these paths, filled in while the network runs."""
    features: dict[str, Tensor] = {}
    listed: list[Tensor] = []

    def keep(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            features[path] = output.clone()  # the next module may write into it, as an in-place relu does

        return hook

    handles = [network.get_submodule(path).register_forward_hook(keep(path)) for path in paths]
    try:
        yield listed
    finally:
        for handle in handles:
            handle.remove()
    listed.extend(features[path] for path in paths)
