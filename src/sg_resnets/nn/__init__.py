"""The network: blocks, shortcuts, stems, and the one class that puts them together. Plain PyTorch, without the host."""

from sg_resnets.nn import multi_path  # noqa: F401  (its blocks register themselves)
from sg_resnets.nn.attention import ATTENTIONS, register_attention
from sg_resnets.nn.blocks import BLOCKS, BasicBlock, Bottleneck, ResidualBlock, named_blocks, register_block
from sg_resnets.nn.resnet import ResNet
from sg_resnets.nn.shortcuts import SHORTCUTS, register_shortcut
from sg_resnets.nn.stems import STEMS, register_stem

__all__ = [
    "ATTENTIONS",
    "BLOCKS",
    "SHORTCUTS",
    "STEMS",
    "BasicBlock",
    "Bottleneck",
    "ResNet",
    "ResidualBlock",
    "named_blocks",
    "register_attention",
    "register_block",
    "register_shortcut",
    "register_stem",
]
