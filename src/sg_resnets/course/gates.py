"""A network whose blocks are switched on and off from outside, as one ONNX file: from a picture as Fashion-MNIST stores
it to the logits, with what each stage gives.

With gates b and s, block i gives relu(b[i] F(x) + s[i] S(x)), S the shortcut without parameters (He et al. 2015,
section 3.3, option A). Plain nets have it too: at s = 0 they are what was trained. A block that is deleted (Veit et
al. 2016, section 4.1) is b = 0, s = 1 in both.
"""

import copy
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sg_resnets.data import IN_MEMORY
from sg_resnets.export import exporter, onnx
from sg_resnets.export.runtimes import onnxruntime_session
from sg_resnets.models import SHORTCUTS, ResNet, named_blocks
from sg_resnets.quantization.calibrate import calibrate
from sg_resnets.quantization.graph import fold, insert_quantizers
from sg_resnets.quantization.params import QuantizationParams

STAGES = ("layer1", "layer2", "layer3")
OUTPUTS = ("logits", "conv1", *STAGES)
BATCH = 500  # pictures at once
# A gate is a float, and so is what it scales. Least squared error: a deep plain net loses most to a wrong range.
INT8 = QuantizationParams(skip_modules=("*.addition",), histogram_calib_method="mse")


class Gate(nn.Module):
    """b F(x) + s S(x), in the place of a block's addition; both gates are scalars.

    Args:
        shortcut: s, until it is set to something else.
    """

    branch: Tensor
    shortcut: Tensor

    def __init__(self, shortcut: float) -> None:
        super().__init__()
        self.register_buffer("branch", torch.tensor(1.0), persistent=False)
        self.register_buffer("shortcut", torch.tensor(shortcut), persistent=False)

    def forward(self, branch: Tensor, shortcut: Tensor, x: Tensor) -> Tensor:
        return self.branch * branch + self.shortcut * shortcut


class GatedNetwork(nn.Module):
    """A copy of a plain or residual network of basic blocks, in eval mode, with gates. Maps images (N, C, H, W) to the
    logits (N, K), and what the stem and each stage give."""

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval()
        for block in self.network.blocks():
            block.addition = Gate(_shortcut(network))
            if block.downsample is None:
                first, last = block.branch_layers(nn.Conv2d)
                block.downsample = SHORTCUTS["A"](first.in_channels, last.out_channels, first.stride[0], network.config)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        network, x, features = self.network, images, []
        for name in ("conv1", "bn1", "relu", *STAGES):
            x = getattr(network, name)(x)
            features += [] if name in ("conv1", "bn1") else [x]
        return network.fc(network.avgpool(x).flatten(1)), *features


def halving(side: int) -> Tensor:
    """The matrix (side / 2, side) that halves a picture's side as PyTorch does it for uint8, bilinear with
    antialiasing: a triangle over four pixels, in steps of 2^-16, so that float32 computes with it exactly."""
    centres = torch.arange(side // 2).view(-1, 1) + 0.5
    pixels = (torch.arange(side) + 0.5) / 2
    weights = (1 - (pixels - centres).abs()).clamp(min=0).double()
    return ((weights / weights.sum(1, keepdim=True) * 2**16).round() / 2**16).float()


class FromPictures(nn.Module):
    """What a file computes: pictures (N, 1, 28, 28), grey values 0..255, and the gates of all blocks (B,) each, to the
    outputs of the gated network. The pictures are halved and normalised exactly as the recipe's data is."""

    halve: Tensor

    def __init__(self, network: nn.Module, blocks: Iterable[str]) -> None:
        super().__init__()
        source = IN_MEMORY["fashion_mnist"]
        self.network = network
        self.gates = [network.get_submodule(f"network.{name}.addition") for name in blocks]
        self.register_buffer("halve", halving(source.size))
        self.scale, self.shift = 1 / (255 * source.std[0]), source.mean[0] / source.std[0]

    def forward(self, pictures: Tensor, branch: Tensor, shortcut: Tensor) -> tuple[Tensor, ...]:
        for i, gate in enumerate(self.gates):
            gate.branch, gate.shortcut = branch[i], shortcut[i]
        rows = torch.floor(pictures @ self.halve.T + 0.5)  # PyTorch rounds between the two directions
        pixels = torch.floor(self.halve @ rows + 0.5)
        return self.network(pixels * self.scale - self.shift)


def write_float(network: ResNet, path: Path) -> None:
    """Write a network with gates as ONNX, its batch-norms folded."""
    _write(fold(GatedNetwork(network)), list(named_blocks(network)), path, "fp32")


def write_int8(network: ResNet, images: Tensor, path: Path) -> None:
    """Write a network with gates as ONNX, its convolutions and its linear layer in INT8 (QDQ), calibrated on `images`
    (N, 1, 14, 14), normalised."""
    quantized = insert_quantizers(GatedNetwork(network), INT8)
    calibrate(quantized, images.split(64), INT8)
    _write(quantized, list(named_blocks(network)), path, "ptq")


def _write(network: nn.Module, blocks: list[str], path: Path, kind: str) -> None:
    frozen, scales = onnx.freeze(network)
    source = IN_MEMORY["fashion_mnist"]
    inputs = {
        "pictures": torch.zeros(1, 1, source.size, source.size),
        "branch": torch.ones(len(blocks)),
        "shortcut": torch.ones(len(blocks)),
    }
    model = exporter.export(FromPictures(frozen, blocks), inputs, OUTPUTS, exporter.OPSET)
    # Its pictures are not normalised, so it says no mean and no std.
    info = onnx.FileInfo(size=(source.size, source.size), kind=kind)
    onnx.save(onnx.store_integers(model, scales), path, info)


def run(path: Path, pictures: np.ndarray, branch: Sequence[float], shortcut: Sequence[float]) -> list[np.ndarray]:
    """Return what ONNX Runtime computes with a file, `OUTPUTS`: of pictures float32 (N, 1, 28, 28), and a gate for the
    branch and one for the shortcut of each block."""
    session = onnxruntime_session(path)
    parts = np.array_split(pictures, math.ceil(len(pictures) / BATCH))
    fixed = {"branch": np.asarray(branch, np.float32), "shortcut": np.asarray(shortcut, np.float32)}
    found = [session.run(list(OUTPUTS), {"pictures": part, **fixed}) for part in parts]
    return [np.concatenate(output) for output in zip(*found, strict=True)]


def as_trained(network: ResNet) -> tuple[list[float], list[float]]:
    """Return the gates of branches and shortcuts with which a file is the network that was trained."""
    count = len(network.blocks())
    return [1.0] * count, [_shortcut(network)] * count


def _shortcut(network: ResNet) -> float:
    return 0.0 if network.config.shortcut == "none" else 1.0
