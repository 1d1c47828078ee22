"""The networks: blocks, shortcuts, stems, and the one class that puts them together. Plain PyTorch.

What is exported here is loaded when it is first asked for, so that tables (`models.zoo`, `models.config`) need no
torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sg_resnets.models.attention import ATTENTIONS, register_attention
    from sg_resnets.models.blocks import BLOCKS, BasicBlock, Bottleneck, ResidualBlock, named_blocks, register_block
    from sg_resnets.models.resnet import ResNet
    from sg_resnets.models.shortcuts import SHORTCUTS, register_shortcut
    from sg_resnets.models.stems import STEMS, register_stem

_MODULES = {
    "attention": ("ATTENTIONS", "register_attention"),
    "blocks": ("BLOCKS", "BasicBlock", "Bottleneck", "ResidualBlock", "named_blocks", "register_block"),
    "resnet": ("ResNet",),
    "shortcuts": ("SHORTCUTS", "register_shortcut"),
    "stems": ("STEMS", "register_stem"),
}
__all__ = [
    "ATTENTIONS", "BLOCKS", "SHORTCUTS", "STEMS", "BasicBlock", "Bottleneck", "ResNet", "ResidualBlock", "named_blocks",
    "register_attention", "register_block", "register_shortcut", "register_stem",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            import_module(f"{__name__}.resnet")  # with which all blocks are registered
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
