"""Checkpoints, in one place: read (data, never code), verified, explained when they do not fit, written whole.

A checkpoint of a run is a dict: `net` and, with averaging, `ema_net` (state dicts), `recipe` (what trained it),
`epoch`, `acc`, `metrics`, `processing_params`, and what resuming needs. A distillation's holds student and regressors;
`load` and `student_alone` make one of the student of it.
"""

import logging
import pickle
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sg_resnets.distillation.student import student_alone
from sg_resnets.models.config import ResNetConfig
from sg_resnets.models.zoo import CUSTOM, ZOO
from sg_resnets.quantization.graph import is_quantized
from sg_resnets.runs.find import LATEST, find_checkpoint
from sg_resnets.utils import safetensors
from sg_resnets.utils.errors import MisfitError, SgResnetsError
from sg_resnets.utils.files import whole_file

logger = logging.getLogger(__name__)

# Where other programs keep a network's weights in a checkpoint, and what they put before the keys.
_WEIGHTS = ("net", "state_dict", "model_state_dict", "model", "module", "ema_net", "ema")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
# What is kept of a file when the next one is written, and read where that one is damaged.
PREVIOUS = {LATEST: "ckpt_previous.pth", "averaging_snapshots.pkl": "averaging_snapshots_previous.pkl"}
_IN_SAFETENSORS = ("recipe", "processing_params", "acc", "epoch", "metrics")


def numpy_globals() -> list[Any]:
    """Return what numpy's arrays and scalars are unpickled with: data, which SuperGradients writes into checkpoints."""
    reconstruct, scalar = np.ones(1).__reduce__()[0], np.float64(0).__reduce__()[0]  # renamed in numpy 2
    kinds = {type(np.dtype(kind)) for kind in "?bhilqBHILQefdFDU"}
    return [np.ndarray, np.dtype, reconstruct, scalar, *kinds]


def read(path: str | Path, device: str = "cpu") -> dict[str, Any]:
    """Return what a local checkpoint holds: tensors and plain containers, never code. A run's folder, or its
    experiment's, stands for its best checkpoint; a bare state dict, or another program's, is returned as {"net": ...}.

    Raises:
        MissingFileError: no such file.
        SgResnetsError: a truncated one, one that holds more than data, or no weights.
    """
    path = find_checkpoint(Path(path))
    if path.suffix == ".onnx":
        raise SgResnetsError(
            f"{path} is for other programs to run, and `sg-resnets benchmark {path}` measures it: give the run or "
            "checkpoint that it was exported from"
        )
    if path.suffix == safetensors.SUFFIX:
        return safetensors.read(path, device)
    try:
        return _read_file(path, device)
    except SgResnetsError as error:
        previous = path.with_name(PREVIOUS.get(path.name, path.name))
        if previous == path or not previous.is_file():
            raise
        state = _read_file(previous, device)
        logger.warning(f"{error}. {previous.name}, the one before, is read in its place.")
        return state


def _read_file(path: Path, device: str) -> dict[str, Any]:
    try:
        verify(path)
        with torch.serialization.safe_globals(numpy_globals()):
            state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged file may raise any
        cause = None if isinstance(error, pickle.UnpicklingError) else error  # its advice is to run the file
        raise SgResnetsError(_unreadable(path, error)) from cause
    return unpacked(state, path)


def verify(path: Path) -> None:
    """Compare a checkpoint with the checksums that `torch.save` has written into it, which `torch.load` does not.

    Raises:
        zipfile.BadZipFile: they differ.
    """
    if not zipfile.is_zipfile(path):
        return  # of PyTorch before 1.6; it has none
    with zipfile.ZipFile(path) as archive:
        has_checksums = any(member.CRC for member in archive.infolist())  # PyTorch can be told to leave them out
        damaged = archive.testzip() if has_checksums else None
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} is damaged")


def unpacked(state: Any, path: str | Path) -> dict[str, Any]:
    """Return a checkpoint's contents with the weights under "net", wherever they were.

    Raises:
        SgResnetsError: it is no dict, or the weights have no names.
    """
    if not isinstance(state, Mapping):
        raise SgResnetsError(f"{path} holds a {type(state).__name__}, not a state dict: give a checkpoint")
    if state and all(isinstance(value, Tensor) for value in state.values()):
        state = {"net": state}
    key = next((key for key in _WEIGHTS if isinstance(state.get(key), Mapping)), "")
    if not all(isinstance(name, str) for name in state.get(key, ())):
        raise SgResnetsError(f"{path} holds weights without names: give a state dict")
    rest = {other: value for other, value in state.items() if other not in (key, "net")}
    return {**rest, "net": dict(state[key])} if key else rest


def _unreadable(path: Path, error: Exception) -> str:
    with open(path, "rb") as file:
        start = file.read(512)
    if start and start.isascii() and b"\0" not in start:
        return f"{path} is a text file: give a checkpoint, a run's folder, or its experiment's"
    if _files_in(path, "constants.pkl"):
        return (
            f"{path} is a TorchScript program: from a source that you trust, take out the weights: "
            f"torch.save(torch.jit.load('{path}').state_dict(), 'weights.pth')"
        )
    refused = isinstance(error, pickle.UnpicklingError) and (
        "Unsupported" in str(error) or "weights_only" in str(error).lower()
    )
    if not refused or not start:
        others = ", ".join(sorted(file.name for file in path.parent.glob("*.pth") if file != path)) or "none left"
        of_run = path.name.startswith(("ckpt_", "average_"))
        advice = f"use another of its run ({others})" if of_run else "delete it, and get it again"
        return f"{path} is damaged or cut short ({path.stat().st_size} bytes): {advice}"
    keys = [key for key in _WEIGHTS if _mentions(path, key)]
    take = f"['{keys[0]}']" if keys else ""
    return (
        f"{path} was refused: it holds objects that run code when read, and only tensors and plain values are loaded; "
        f"from "
        f"a source that you trust, take out the weights: torch.save(torch.load('{path}', weights_only=False){take}, "
        "'weights.pth')"
    )


def _mentions(path: Path, key: str) -> bool:
    """Whether the checkpoint's pickle has this string; it is looked through, not run."""
    string = b"X" + len(key).to_bytes(4, "little") + key.encode()
    return any(string in contents for contents in _files_in(path, "data.pkl"))


def _files_in(path: Path, name: str) -> list[bytes]:
    """What the files of this name hold, if the checkpoint is an archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [archive.read(member) for member in archive.namelist() if Path(member).name == name]
    except Exception:  # a damaged one may raise any
        return []


def averaged_weights(state: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """Return the weights that a checkpoint is evaluated with: the moving average, if it has one."""
    return state.get("ema_net") or state["net"]


def renamed(weights: Mapping[str, Tensor], wanted: Iterable[str]) -> Mapping[str, Tensor]:
    """Return weights without the prefixes that wrappers put before all of their names, unless the network has them
    too."""
    names = list(wanted)
    while weights:
        shared = [prefix for prefix in _PREFIXES if all(key.startswith(prefix) for key in weights)]
        if not shared or any(name.startswith(shared[0]) for name in names):
            break
        weights = {key.removeprefix(shared[0]): tensor for key, tensor in weights.items()}
    return weights


def load(path: Path) -> tuple[Path, dict[str, Any]]:
    """Return a checkpoint's file and what it holds, of a distillation the student alone; `path` may be a run's or an
    experiment's folder.

    Raises:
        SgResnetsError: no such file, a damaged one, or one without the recipe that it was trained with.
    """
    path = find_checkpoint(path)
    state = read(path)
    if "recipe" not in state or "net" not in state:
        raise SgResnetsError(
            f"{path} does not say which network it is: it was saved without a recipe; load it in Python with "
            "super_gradients.training.models.get(name, num_classes=N, checkpoint_path=...)"
        )
    return path, student_alone(state)


def write(state: Mapping[str, Any], path: str | Path) -> None:
    """Write a checkpoint, whole or not at all; of a run's latest the one before is kept. numpy's numbers become
    Python's, and other kinds of dict and tuple plain ones, which `torch.load` takes for data.

    Raises:
        SgResnetsError: it cannot be written.
    """
    try:
        with whole_file(path, previous=PREVIOUS.get(Path(path).name)) as temporary:
            torch.save(_plain(state), temporary)
    except RuntimeError as error:  # PyTorch's for a full disk
        raise SgResnetsError(f"{path} cannot be written ({str(error).splitlines()[0]}): is the disk full?") from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping) and not hasattr(value, "_metadata"):  # which a network's state has
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [*map(_plain, value)] if isinstance(value, list) else tuple(map(_plain, value))
    return value


def write_safetensors(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint's weights with its recipe and figures as safetensors; `read` takes it like the original."""
    safetensors.write(averaged_weights(state), {key: state[key] for key in _IN_SAFETENSORS if key in state}, path)


def explain_misfit(network: nn.Module, path: str | Path, state: Mapping[str, Any]) -> str:
    """Return a line that says why a checkpoint's weights do not fit a network."""
    ours = network.state_dict()
    theirs = renamed(averaged_weights(state) if "net" in state else {}, ours)
    if is_quantized(theirs):
        return f"{path} holds a quantised network: give the float one that it was made of"
    missing, unexpected = [key for key in ours if key not in theirs], [key for key in theirs if key not in ours]
    reshaped = [key for key in ours if key in theirs and getattr(theirs[key], "shape", None) != ours[key].shape]
    name = getattr(network, "_sg_model_name", type(network).__name__)
    if not missing and not unexpected and set(reshaped) == {"fc.weight", "fc.bias"}:
        classes = [len(weights["fc.bias"]) for weights in (theirs, ours)]
        return (
            f"{path} has {classes[0]} classes and {name} {classes[1]}: to put a new head on it, set "
            f"checkpoint_num_classes={classes[0]} beside its checkpoint_path"
        )
    kinds = (("weights missing", missing), ("too many", unexpected), ("of another shape", reshaped))
    parts = [f"{len(keys)} {what} (such as {keys[0]})" for what, keys in kinds if keys]
    recipe = state.get("recipe") or {}
    trained = ""
    if "architecture" in recipe:
        arch_params = {key: value for key, value in (recipe.get("arch_params") or {}).items() if key != "num_classes"}
        trained = f"; it was trained as architecture={recipe['architecture']} with arch_params={arch_params}"
    return f"{path} does not fit {name}: {', '.join(parts) or 'it holds no weights'}{trained}"


def refuse_twin(network: nn.Module, path: str | Path, recipe: Mapping[str, Any]) -> None:
    """Refuse weights of a network that computes something else with the same names and shapes, such as a plain net's in
    its residual twin: only the recipe tells them apart.

    Raises:
        MisfitError: the recipe is of another network than this one.
    """
    ours, theirs = getattr(network, "config", None), _config_of(recipe)
    if not isinstance(ours, ResNetConfig) or theirs is None or not (changed := theirs.differences(ours)):
        return
    values = [", ".join(f"{key}={getattr(config, key)}" for key in changed) for config in (theirs, ours)]
    raise MisfitError(
        f"{path} was trained as {recipe['architecture']} with {values[0]}, and this is "
        f"{getattr(network, '_sg_model_name', 'a network')} with {values[1]}: load it as it was trained"
    )


def refuse_other_classes(
    path: str | Path, state: Mapping[str, Any], names: Sequence[str], is_final: bool = False
) -> None:
    """Refuse a checkpoint whose classifier knows as many classes as the data, `names`, and others, or in another order:
    it would name all wrong. Where the numbers differ too, the classifier is replaced, or does not fit, unless it
    `is_final`.

    Raises:
        MisfitError: they are such.
    """
    theirs, ours = list((state.get("processing_params") or {}).get("class_names") or []), list(names)
    if not theirs or not ours or theirs == ours or (len(theirs) != len(ours) and not is_final):
        return
    if is_final and len(theirs) != len(ours):
        odd = ", ".join(sorted({*theirs} ^ {*ours})[:5])
        raise MisfitError(
            f"{path} was trained on {len(theirs)} classes, and the data has {len(ours)}, different are {odd}: give "
            "data of the same classes"
        )
    i = next(i for i, pair in enumerate(zip(theirs, ours, strict=True)) if len({*pair}) == 2)
    order = "the same in another order" if sorted(theirs) == sorted(ours) else "others"
    raise MisfitError(
        f"{path} was trained on other classes than the data has, {order}: its class {i} is {theirs[i]}, that of the "
        f"data {ours[i]}; give the data that it was trained on, or to train it on these with a new classifier "
        f"checkpoint_params.checkpoint_num_classes={len(theirs)}"
    )


def _config_of(recipe: Mapping[str, Any]) -> ResNetConfig | None:
    """Return the configuration of the network that a recipe trains, if it is one of ours."""
    name = recipe.get("architecture")
    row = ZOO["resnet20_cifar"] if name == CUSTOM else ZOO.get(str(name))
    if row is None:
        return None
    from_host = ("num_input_channels", "model_name", "schema", "num_classes", "in_channels")
    try:
        return row.config.override(**{k: v for k, v in (recipe.get("arch_params") or {}).items() if k not in from_host})
    except SgResnetsError:  # of another version of ours
        return None
