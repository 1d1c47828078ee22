"""Checkpoints are data: they are read with `weights_only=True`, and what is wrong with one is said in a line.

The host leaves `weights_only` to PyTorch's default, which was False before 2.6, and answers a truncated file with
'PytorchStreamReader failed', another network's with a list of all keys.
"""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path

FAULT = "checkpoints are read with torch.load's default, and a wrong one is answered with a page of keys"


def present() -> bool:
    import inspect

    from super_gradients.training.utils import checkpoint_utils

    return "weights_only" not in inspect.getsource(checkpoint_utils.read_ckpt_state_dict)


def read_checkpoint(path, device="cpu"):
    """The contents of a local checkpoint: tensors and plain containers, never code. A run's folder, or its
    experiment's, stands for its best checkpoint.

    Raises:
        SgResnetsError: no such file, a truncated one, or one that holds more than data.
    """
    import torch

    from sg_resnets import safetensors_file
    from sg_resnets.errors import SgResnetsError
    from sg_resnets.paths import find_run

    path = Path(path)
    if path.is_dir():
        path = find_run(path, "ckpt_best.pth") / "ckpt_best.pth"
    if not path.is_file():
        beside = sorted(p.name for p in path.parent.glob("*.pth")) if path.parent.is_dir() else []
        there = f"there are {', '.join(beside)}" if beside else f"{path.parent} has no checkpoint"
        raise SgResnetsError(f"no checkpoint at {path}: {there}")
    if path.suffix == ".onnx":
        raise SgResnetsError(
            f"{path} is for other programs to run, and `sg-resnets benchmark {path}` measures it: give the run or "
            "checkpoint that it was exported from"
        )
    if path.suffix == safetensors_file.SUFFIX:
        return safetensors_file.read(path, device)
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or ("weights_only" in str(error).lower() and os.path.getsize(path) > 0):
            raise SgResnetsError(
                f"{path} was refused: it holds objects that run code when read, and only tensors and plain values are "
                "loaded; save it again as a state dict, from a source that you trust"
            ) from None
        raise SgResnetsError(_damaged(path)) from None
    except (RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise SgResnetsError(_damaged(path)) from error


def _damaged(path):
    others = ", ".join(sorted(p.name for p in path.parent.glob("*.pth") if p != path)) or "none left"
    return f"{path} is damaged or cut short ({path.stat().st_size} bytes): use another of its run ({others})"


def repair() -> None:
    from super_gradients.training.utils import checkpoint_utils
    from super_gradients.training.utils.utils import unwrap_model

    from sg_resnets.compat.patching import wrap_function
    from sg_resnets.distillation.student import student_alone
    from sg_resnets.errors import SgResnetsError

    whole = True  # whether a distillation's checkpoint is read with all it holds, or as its student's
    recipe: Mapping = {}  # of the checkpoint read last: the host may throw it away

    def read(original):
        def read_ckpt_state_dict(ckpt_path, device="cpu"):
            if str(ckpt_path).startswith("https://"):
                return original(ckpt_path, device)  # torch.hub, which is weights_only from PyTorch 2.6 on
            nonlocal recipe
            state = read_checkpoint(ckpt_path, device)
            if not isinstance(state, Mapping):
                raise SgResnetsError(f"{ckpt_path} holds a {type(state).__name__}, not a state dict: give a checkpoint")
            state = state if whole else student_alone(state)
            recipe = state.get("recipe") or {}
            return state

        return read_ckpt_state_dict

    def load(original):
        def load_checkpoint_to_model(net, ckpt_local_path, *args, **kwargs):
            nonlocal whole
            whole = hasattr(unwrap_model(net), "student")  # a distillation that is resumed
            try:
                checkpoint = original(net, ckpt_local_path, *args, **kwargs)
            except SgResnetsError:
                raise
            except (RuntimeError, ValueError, KeyError) as error:
                raise SgResnetsError(_why_it_does_not_fit(unwrap_model(net), ckpt_local_path)) from error
            finally:
                whole = True
            _refuse_a_twin(unwrap_model(net), ckpt_local_path, recipe)
            return checkpoint

        return load_checkpoint_to_model

    wrap_function(checkpoint_utils, "read_ckpt_state_dict", read)
    wrap_function(checkpoint_utils, "load_checkpoint_to_model", load)


def _why_it_does_not_fit(net, path):
    from sg_resnets.quantization.trainer import is_quantised

    checkpoint = read_checkpoint(path)
    theirs = checkpoint.get("ema_net") or checkpoint.get("net") or checkpoint
    if is_quantised(theirs):
        return f"{path} holds a quantised network: give the float one that it was made of"
    ours = net.state_dict()
    missing, unexpected = [k for k in ours if k not in theirs], [k for k in theirs if k not in ours]
    differ = [k for k in ours if k in theirs and getattr(theirs[k], "shape", None) != ours[k].shape]
    parts = [
        f"{len(keys)} {what} (such as {keys[0]})"
        for what, keys in (("weights missing", missing), ("too many", unexpected), ("of another shape", differ))
        if keys
    ]
    name = getattr(net, "_sg_model_name", type(net).__name__)
    if not missing and not unexpected and all(key.startswith("fc.") for key in differ):
        theirs_classes, ours_classes = len(theirs["fc.bias"]), len(ours["fc.bias"])
        return (
            f"{path} has {theirs_classes} classes and {name} {ours_classes}: to put a new head on it, set "
            f"checkpoint_num_classes={theirs_classes} beside its checkpoint_path"
        )
    recipe = checkpoint.get("recipe") or {}
    trained = ""
    if "architecture" in recipe:
        arch_params = {k: v for k, v in (recipe.get("arch_params") or {}).items() if k != "num_classes"}
        trained = f"; it was trained as architecture={recipe['architecture']} with arch_params={arch_params}"
    return f"{path} does not fit {name}: {', '.join(parts) or 'it holds no weights'}{trained}"


def _refuse_a_twin(net, path, recipe):
    """A plain net has the weights of its residual twin, name for name: only the recipe tells them apart."""
    from sg_resnets.errors import SgResnetsError
    from sg_resnets.zoo import ZOO

    ours, theirs = getattr(net, "_sg_model_name", None), recipe.get("architecture")
    if ours in ZOO and theirs in ZOO and ours != theirs:
        raise SgResnetsError(f"{path} was trained as {theirs}, and this is {ours}: load it as {theirs}")
