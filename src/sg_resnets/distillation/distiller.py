"""A student and its teacher as one network, to be trained as any other.

The teacher is held but is no part of it: not in its parameters, its state dict, its copies (EMA) or what distributed
training synchronises. It is frozen, and in eval mode always. Features are tapped by module path with forward hooks
that exist only while the networks run, so networks need no change and no copy has a hook of another.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sg_resnets.models import ResNet
from sg_resnets.utils.checks import integer
from sg_resnets.utils.errors import SgResnetsError, choices
from sg_resnets.utils.hooks import evaluating, outputs_of


class DistillationOutput(NamedTuple):
    """Logits (N, K) of both, and their features, one tensor for each tap; SuperGradients' losses and metrics read the
    first two by their names."""

    student_output: Tensor
    teacher_output: Tensor
    student_features: Sequence[Tensor] = ()
    teacher_features: Sequence[Tensor] = ()


class Unregistered:
    """Holds a frozen network so that its holder neither registers nor copies it."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval().requires_grad_(False)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Unregistered":
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
        self.size = size if size is None else integer(1)("teacher_input.size", size)
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


class Distiller(nn.Module):
    """Runs both networks on a batch, (N, C, H, W), and returns a `DistillationOutput`.

    Args:
        student: any network.
        teacher: any network that takes the same images and has the same classes.
        taps: {student: path or list of paths, teacher: as many, regressor: whether 1x1 convolutions bring the student's
            features to the teacher's channels}.
        teacher_input: arguments of `InputAdapter`.

    Raises:
        SgResnetsError: the networks share parameters, a tap does not exist, or there are not as many of the one as of
            the other.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        taps: Mapping[str, Any] | None = None,
        teacher_input: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        taps = taps or {}
        if unknown := set(taps) - {"student", "teacher", "regressor"}:
            raise SgResnetsError(f"taps has no {', '.join(unknown)}: it takes student, teacher and regressor")
        frozen = set(teacher.parameters())
        if shared := [name for name, parameter in student.named_parameters() if parameter in frozen]:
            raise SgResnetsError(
                f"student and teacher share {', '.join(shared[:3])}{', ...' * (len(shared) > 3)}, and the teacher's "
                "parameters are frozen: give the teacher a copy, copy.deepcopy(network)"
            )
        self.student = student
        for name, network in (("student", student), ("teacher", teacher)):
            if isinstance(network, ResNet):
                network.arch_params_key = f"{name}_arch_params"
        self._student_taps = _taps(student, "student", taps.get("student"))
        self._teacher_taps = _taps(teacher, "teacher", taps.get("teacher"))
        if len(self._student_taps) != len(self._teacher_taps):
            raise SgResnetsError(
                f"taps: {len(self._student_taps)} of the student ({', '.join(self._student_taps)}) and "
                f"{len(self._teacher_taps)} of the teacher ({', '.join(self._teacher_taps)}): give as many of each"
            )
        self._wants_regressors = bool(taps.get("regressor"))
        if teacher_input:
            if unknown := set(teacher_input) - {"student", "teacher", "size"}:
                raise SgResnetsError(f"teacher_input has no {', '.join(unknown)}: it takes student, teacher and size")
            teacher = nn.Sequential(InputAdapter(**teacher_input), teacher)
            self._teacher_taps = [f"1.{path}" for path in self._teacher_taps]
        self._teacher = Unregistered(teacher)
        self.regressors = nn.ModuleList()

    @property
    def teacher(self) -> nn.Module:
        return self._teacher.network

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Distiller":
        self.teacher._apply(fn, recurse)  # to(device) and the like reach the teacher too
        return super()._apply(fn, recurse)

    def forward(self, images: Tensor) -> DistillationOutput:
        with torch.no_grad(), outputs_of(self.teacher, self._teacher_taps) as of_teacher:
            teacher_output = self.teacher(images)
        with outputs_of(self.student, self._student_taps) as of_student:
            student_output = self.student(images)
        student_features = [_feature(of_student, path) for path in self._student_taps]
        teacher_features = [_feature(of_teacher, path) for path in self._teacher_taps]
        if self.regressors:
            student_features = [r(f) for r, f in zip(self.regressors, student_features, strict=True)]
        return DistillationOutput(student_output, teacher_output, student_features, teacher_features)

    @torch.no_grad()
    def fit_to(self, images: Tensor) -> DistillationOutput:
        """Make the regressors that the features of these images ask for, unless they were made before; returns what
        comes of the images.

        Raises:
            SgResnetsError: the two networks have other numbers of classes, or features of other sizes.
        """
        with evaluating(self):
            return self._fit_to(images)

    def _fit_to(self, images: Tensor) -> DistillationOutput:
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
        if self._wants_regressors and not self.regressors:
            for tap, (student, _) in zip(self._student_taps, pairs, strict=True):
                if student.ndim != 4:
                    raise SgResnetsError(
                        f"taps: a regressor takes feature maps (N, C, H, W), and the student's {tap} gives "
                        f"{_shape(student)}: choose another tap, or set distillation.taps.regressor=False"
                    )
            where = next(self.student.parameters())
            self.regressors.extend(
                nn.Conv2d(student.shape[1], teacher.shape[1], kernel_size=1, device=where.device, dtype=where.dtype)
                for student, teacher in pairs
            )
            output = self(images)
        return output

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As usual; a student's weights alone go into the student."""
        if not any(key.startswith("student.") for key in state_dict):
            return self.student.load_state_dict(state_dict, *args, **kwargs)
        return super().load_state_dict(state_dict, *args, **kwargs)

    # What SuperGradients asks of a network.

    def validate_input_shape(self, input_shape: Sequence[int]) -> None:
        """Refuse batches (N, C, H, W) that one of the networks does not take; a teacher behind an adapter is tried out
        in `fit_to` alone.

        Raises:
            SgResnetsError: the data has another number of channels.
        """
        for network in (self.student, self.teacher):
            if isinstance(network, ResNet):
                network.validate_input_shape(input_shape)

    def get_input_channels(self) -> int:
        """Return the channels of the images that the student takes."""
        return self.student.get_input_channels()  # type: ignore[operator]

    def replace_input_channels(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: the student gets its input channels before it is distilled."""
        raise SgResnetsError("give the student its input channels before it is distilled: student_arch_params")


def _taps(network: nn.Module, whose: str, paths: str | Sequence[str] | None) -> list[str]:
    listed = [paths] if isinstance(paths, str) else list(paths or [])
    modules = [name for name, _ in network.named_modules() if name]
    outer = [name for name in modules if "." not in name]
    for path in listed:
        if path not in modules:
            valid = choices(path, sorted(modules, key=lambda name: "." in name), limit=len(outer))
            raise SgResnetsError(f"taps: the {whose} has no module '{path}': {valid}")
    return listed


def _feature(outputs: Mapping[str, Tensor], path: str) -> Tensor:
    if path not in outputs:
        raise SgResnetsError(f"taps: {path} is not run when the network is: choose another module")
    return outputs[path]


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
