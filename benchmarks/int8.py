"""INT8 files against float32 ones in ONNX Runtime: one thread, batches of 1 and 32, the files in turn.

Run: python benchmarks/int8.py [ROUNDS]. ResNet-20 at 28x28 with the shipped weights; ResNet-18 and -50 at 224x224
untrained: speed does not depend on the weights. Calibrated on 16 images, with weights of 8 bits and of 7
(`reduce_range`).
"""

import sys
import tempfile
from pathlib import Path

import torch
from common import place, ratio
from super_gradients.training import models

from sg_resnets.export import onnx as onnx_file
from sg_resnets.export.benchmark import BATCHES, latencies
from sg_resnets.export.onnx import FileInfo
from sg_resnets.export.runtimes import load
from sg_resnets.quantization.calibrate import calibrate
from sg_resnets.quantization.graph import insert_quantizers
from sg_resnets.quantization.params import QuantizationParams
from sg_resnets.utils.hardware import has_int8_kernels

NETWORKS = {
    "resnet20_cifar": ({"num_classes": 10, "pretrained_weights": "fashion_mnist"}, (1, 28, 28)),
    "resnet18_v1b": ({"num_classes": 1000}, (3, 224, 224)),
    "resnet50_v1b": ({"num_classes": 1000}, (3, 224, 224)),
}


def write(name: str, folder: Path) -> list[Path]:
    """fp32, INT8, INT8 with 7-bit weights."""
    given, shape = NETWORKS[name]
    network = models.get(name, **given).eval()
    paths = [folder / f"{name}.{kind}.onnx" for kind in ("fp32", "int8", "int7")]
    onnx_file.write(network, paths[0], shape, FileInfo())
    for path, reduced in zip(paths[1:], (False, True), strict=True):
        params = QuantizationParams(calibrator_i="max", reduce_range=reduced)
        quantised = insert_quantizers(network, params)
        calibrate(quantised, [torch.randn(16, *shape)], params)
        onnx_file.write(quantised, path, shape, FileInfo(kind="ptq"))
    return paths


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    print(place())
    if not has_int8_kernels():
        print("no VNNI or AMX: 8-bit weights run in ONNX Runtime's exact kernels, 7-bit weights in its fast ones")
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            paths = write(name, Path(folder))
            fp32, *others = latencies([load(path) for path in paths], rounds)
            sizes = [path.stat().st_size for path in paths]
        for bits, times, size in zip((8, 7), others, sizes[1:], strict=True):
            print(f"{name}, {bits}-bit weights, {size / sizes[0]:.3f} of the size")
            for batch in BATCHES:
                print("  " + ratio(f"batch {batch:>2}: float32's time over INT8's", fp32[batch], times[batch]))
