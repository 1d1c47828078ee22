"""Checkpoints as safetensors files: weights and what belongs to them, without anything that could run.

`read` gives what a `.pth` checkpoint of a run holds, as far as the file has it, so whatever takes a checkpoint takes
these files too.
"""

import json
from pathlib import Path
from typing import Any

from sg_resnets.errors import SgResnetsError

SUFFIX = ".safetensors"
_KEY = "sg_resnets"  # safetensors' metadata are strings: ours is one, of JSON
_KEPT = ("recipe", "processing_params", "acc", "epoch", "metrics")


def read(path: Path, device: str = "cpu") -> dict[str, Any]:
    """{"net": state dict, "recipe": ..., "processing_params": ..., ...}.

    Raises:
        SgResnetsError: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata, keys = file.metadata() or {}, file.keys()
            return {**json.loads(metadata.get(_KEY, "{}")), "net": {key: file.get_tensor(key) for key in keys}}
    except (SafetensorError, ValueError, OSError) as error:
        raise SgResnetsError(f"{path} is damaged or no safetensors file: take another copy") from error


def write(state: dict[str, Any], path: Path) -> None:
    """The weights of a checkpoint's contents (the averaged ones, if it has them) with its recipe and figures."""
    from safetensors.torch import save

    weights = {key: tensor.contiguous() for key, tensor in (state.get("ema_net") or state["net"]).items()}
    metadata = {key: state[key] for key in _KEPT if key in state}
    try:
        path.write_bytes(save(weights, {_KEY: json.dumps(metadata)}))  # save_file's files are for their owner alone
    except OSError as error:
        raise SgResnetsError(f"{path} cannot be written ({error}): choose another file") from None
