"""safetensors files: weights and what belongs to them, without anything that could run."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.files import write_bytes

SUFFIX = ".safetensors"
_KEY = "sg_resnets"  # safetensors' metadata are strings: ours is one, of JSON,
_CHECKSUM, _NONE = "crc32", "0" * 8  # and another the file's checksum, taken with zeros in its place


def read(path: Path, device: str = "cpu") -> dict[str, Any]:
    """Return {"net": state dict} and the metadata beside it.

    Raises:
        SgResnetsError: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        _verify(path)
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata, keys = file.metadata() or {}, file.keys()
            return {**json.loads(metadata.get(_KEY, "{}")), "net": {key: file.get_tensor(key) for key in keys}}
    except (SafetensorError, ValueError, OSError) as error:
        raise SgResnetsError(f"{path} is damaged or no safetensors file: take another copy") from error


def write(weights: Mapping[str, Tensor], metadata: Mapping[str, Any], path: Path) -> None:
    """Write a state dict with its metadata, which must be JSON, but for tensors and arrays; a tensor that has two names
    is written twice.

    Raises:
        SgResnetsError: the file cannot be written, or the metadata hold something else.
    """
    from safetensors.torch import save

    alone = {key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in weights.items()}
    contents = save(alone, {_KEY: json.dumps(metadata, default=_plain), _CHECKSUM: _NONE})
    checksum = _field(f"{zlib.crc32(contents):08x}")
    write_bytes(path, contents.replace(_field(_NONE), checksum, 1))  # save_file's are readable for their owner alone


def _field(checksum: str) -> bytes:
    return f'"{_CHECKSUM}":"{checksum}"'.encode()


def _verify(path: Path) -> None:
    """Compare a file with its checksum, if it has one: other programs write none.

    Raises:
        ValueError: they differ.
    """
    with open(path, "rb") as file:
        size = file.read(8)
        header = file.read(int.from_bytes(size, "little"))
        checksum = (json.loads(header).get("__metadata__") or {}).get(_CHECKSUM)
        if checksum is None:
            return
        found = zlib.crc32(size + header.replace(_field(checksum), _field(_NONE), 1))
        while part := file.read(2**20):
            found = zlib.crc32(part, found)
    if found != int(checksum, 16):
        raise ValueError("the checksum differs")


def _plain(value: Any) -> Any:
    if not hasattr(value, "tolist"):
        raise SgResnetsError(f"a {type(value).__name__} cannot be written as safetensors: leave it out")
    return value.tolist()
