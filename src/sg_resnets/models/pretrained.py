"""Pretrained weights: `pretrained_weights: imagenet`, `imagenet_v2` (torchvision's), `timm:<tag>`, and of our own
`fashion_mnist`, `fashion_mnist_distilled` (shipped in `checkpoints/pretrained`, each with a card), for rows of the zoo.

Addresses, checksums, preprocessing and class names are those of torchvision's and timm's own metadata. They are loaded
strictly into the network as it was trained; then another number of classes gets a fresh head, and another number of
input channels an adapted stem.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sg_resnets.data.fitting import Fitting
from sg_resnets.data.preprocessing import preprocessing_params
from sg_resnets.models.zoo import ZOO
from sg_resnets.utils import safetensors
from sg_resnets.utils.downloads import fetched
from sg_resnets.utils.errors import SgResnetsError, choices
from sg_resnets.utils.paths import pretrained_path

# Our name: torchvision's. ResNet-18 and -34 have the first kind only.
TORCHVISION_KINDS = {"imagenet": "IMAGENET1K_V1", "imagenet_v2": "IMAGENET1K_V2"}

# timm's keys where they differ from torchvision's, by the beginning of the network's name.
_TIMM_KEYS: dict[str, tuple[tuple[str, Any], ...]] = {
    "resnetv2": (
        (r"^stem\.conv\.", "conv1."),
        (r"^stages\.(\d+)\.blocks\.", lambda match: f"layer{int(match[1]) + 1}."),
        (r"\.norm(\d)\.", r".bn\1."),
        (r"\.downsample\.conv\.", ".downsample.0."),
        (r"^norm\.", "bn_end."),
        (r"^head\.fc\.", "fc."),
    ),
    "sk": (
        (r"\.paths\.(\d)\.conv\.", r".paths.\1.0."),
        (r"\.paths\.(\d)\.bn\.", r".paths.\1.1."),
        (r"\.attn\.fc_reduce\.", ".fuse.0."),
        (r"\.attn\.bn\.", ".fuse.1."),
        (r"\.attn\.fc_select\.", ".select."),
        (r"\.conv(\d)\.conv\.", r".conv\1."),
        (r"\.conv(\d)\.bn\.", r".bn\1."),
    ),
}


@dataclass(frozen=True)
class Weights:
    """A state dict with our keys, and what belongs to it. `processing`: for `set_dataset_processing_params`."""

    state: dict[str, Tensor]
    num_classes: int
    processing: dict[str, Any]
    in_channels: int = 3


def available(name: str) -> list[str]:
    """What `pretrained_weights` may be for the architecture `name`; timm's only where timm is installed."""
    members = _torchvision_members(name)
    kinds = [kind for kind, member in TORCHVISION_KINDS.items() if member in members]
    return kinds + list(_shipped(name)) + [f"timm:{tag}" for tag in _timm_tags(name)]


def load(name: str, kind: str) -> Weights:
    """The weights `kind` of the architecture `name`, downloaded once.

    Raises:
        SgResnetsError: there are none of this kind, no network, a damaged file, or timm is needed and missing.
    """
    if not isinstance(kind, str):
        raise SgResnetsError(f"pretrained_weights={kind}: must be a name; {choices(str(kind), available(name))}")
    if kind.startswith("timm:") and name in ZOO and ZOO[name].timm:
        return _from_timm(name, kind.removeprefix("timm:"))
    if kind in (shipped := _shipped(name)):
        return _from_checkpoint(shipped[kind])
    members = _torchvision_members(name)
    if TORCHVISION_KINDS.get(kind) not in members:
        kinds = available(name)
        valid = choices(kind, kinds) if kinds else "there are none for it"
        raise SgResnetsError(f"no pretrained_weights '{kind}' for {name}: {valid}")
    return _from_torchvision(members[TORCHVISION_KINDS[kind]])


def _shipped(name: str) -> dict[str, Path]:
    """Our own checkpoints of the architecture `name`, by kind: `<name>.<kind>.safetensors`."""
    files = sorted(pretrained_path().glob(f"{name}.*{safetensors.SUFFIX}"))
    return {file.name.split(".")[1]: file for file in files}


def _from_checkpoint(path: Path) -> Weights:
    checkpoint = safetensors.read(path)
    arch = checkpoint["recipe"]["arch_params"]
    return Weights(checkpoint["net"], arch["num_classes"], checkpoint["processing_params"], arch["in_channels"])


def _torchvision_members(name: str) -> Any:
    from torchvision.models import get_model_weights, list_models

    twin = ZOO[name].timm if name in ZOO else ""  # both libraries call these networks by the same names
    return get_model_weights(twin).__members__ if twin in list_models() else {}


def processing_of(name: str, kind: str) -> dict[str, Any] | None:
    """How the weights `kind` of the architecture `name` want their images, as `preprocessing_params` says it, without
    loading them; None where there are no such weights, which `load` says."""
    if kind in (shipped := _shipped(name)):
        return safetensors.read(shipped[kind])["processing_params"]
    members = _torchvision_members(name)
    if TORCHVISION_KINDS.get(kind) in members:
        return _processing_of_torchvision(members[TORCHVISION_KINDS[kind]])
    timm, tag = _timm(), kind.removeprefix("timm:")
    if kind != tag and timm is not None and tag in _timm_tags(name):
        return _processing_of_timm(timm.get_pretrained_cfg(f"{ZOO[name].timm}.{tag}").to_dict())
    return None


def _from_torchvision(weights: Any) -> Weights:
    name = weights.url.rsplit("/", 1)[-1]
    with fetched(weights.url, name, digits=Path(name).stem.rsplit("-", 1)[-1]) as path:
        state = torch.load(path, map_location="cpu", weights_only=True)
    return Weights(state, len(weights.meta["categories"]), _processing_of_torchvision(weights))


def _processing_of_torchvision(weights: Any) -> dict[str, Any]:
    transforms = weights.transforms()
    return preprocessing_params(
        weights.meta["categories"],
        _centre_crop(transforms.resize_size[0], transforms.crop_size[0], transforms.interpolation.value),
        mean=transforms.mean,
        std=transforms.std,
    )


def _centre_crop(resize: int, size: int, interpolation: str) -> Fitting:
    return Fitting((size, size), "crop", (resize, resize), interpolation)


def _timm() -> Any:
    try:
        import timm
    except ModuleNotFoundError:
        return None
    return timm


def _timm_tags(name: str) -> list[str]:
    timm, twin = _timm(), ZOO[name].timm if name in ZOO else ""
    if timm is None or not twin:
        return []
    names = timm.list_pretrained(f"{twin}.*")
    with_head = [full for full in names if timm.get_pretrained_cfg(full).num_classes]
    return [full.partition(".")[2] for full in with_head]


def _from_timm(name: str, tag: str) -> Weights:
    timm, full = _timm(), f"{ZOO[name].timm}.{tag}"
    if timm is None:
        raise SgResnetsError(f"pretrained_weights 'timm:{tag}' needs timm: pip install 'sg-resnets[timm]'")
    from safetensors import SafetensorError  # timm brings it

    if tag not in _timm_tags(name):
        raise SgResnetsError(
            f"no pretrained_weights 'timm:{tag}' for {name}: {choices(f'timm:{tag}', available(name), limit=20)}"
        )
    url = f"https://huggingface.co/timm/{full}/resolve/main/model.safetensors"
    with fetched(url, f"{full}.safetensors") as path:
        try:
            network = timm.create_model(full, pretrained=True, pretrained_cfg_overlay={"file": str(path)})
        except (SafetensorError, RuntimeError):
            raise SgResnetsError(f"{path} is damaged: delete it; it comes from {url}") from None
    processing = _processing_of_timm(network.pretrained_cfg)
    return Weights(from_timm(network.state_dict(), full), network.num_classes, processing)


def _processing_of_timm(cfg: Mapping[str, Any]) -> dict[str, Any]:
    size = cfg["input_size"][-1]
    return preprocessing_params(
        _imagenet_names(cfg["num_classes"]),
        _centre_crop(round(size / cfg["crop_pct"]), size, cfg["interpolation"]),
        mean=cfg["mean"],
        std=cfg["std"],
    )


def _imagenet_names(count: int) -> list[str]:
    from torchvision.models import ResNet50_Weights

    names = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    return names if len(names) == count else [str(number) for number in range(count)]


def from_timm(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The state dict of timm's network `name` with the keys, and the linear classifier, of ours."""
    rules = [rule for prefix, rules in _TIMM_KEYS.items() if name.startswith(prefix) for rule in rules]
    renamed = {}
    for key, tensor in state.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = tensor.flatten(1) if key == "fc.weight" else tensor
    return renamed
