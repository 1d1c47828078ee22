"""INT8 files in OpenVINO on one core: ours for ONNX Runtime and for OpenVINO, and what NNCF makes of the same network,
in turn, for batches of 1 and 32.

Run: pip install nncf, then python benchmarks/against_nncf.py [ROUNDS]. The networks of int8.py, calibrated on the same
16 images; NNCF with its preset 'performance', which computes in symmetric steps as we do.
"""

import sys
import tempfile
from pathlib import Path

import nncf
import openvino
import torch
from common import place, ratio
from int8 import NETWORKS
from super_gradients.training import models

from sg_resnets.export import onnx as onnx_file
from sg_resnets.export import runtimes
from sg_resnets.export.benchmark import BATCHES, latencies
from sg_resnets.export.onnx import FileInfo
from sg_resnets.quantization.calibrate import calibrate
from sg_resnets.quantization.graph import insert_quantizers
from sg_resnets.quantization.params import QuantizationParams

TARGETS = ("onnxruntime", "openvino")


def write(name: str, folder: Path) -> list[Path]:
    """float32, ours for each target, NNCF's."""
    given, shape = NETWORKS[name]
    network = models.get(name, **given).eval()
    images = torch.randn(16, *shape)
    paths = [folder / f"{kind}.onnx" for kind in ("fp32", *TARGETS, "nncf")]
    onnx_file.write(network, paths[0], shape, FileInfo())
    for path, target in zip(paths[1:], TARGETS, strict=False):
        params = QuantizationParams(calibrator_i="max", target=target)
        quantised = insert_quantizers(network, params)
        calibrate(quantised, [images], params)
        onnx_file.write(quantised, path, shape, FileInfo(kind="ptq"))
    float32 = openvino.convert_model(paths[0])
    calibration = nncf.Dataset([image[None].numpy() for image in images])
    theirs = nncf.quantize(float32, calibration, preset=nncf.QuantizationPreset.PERFORMANCE, subset_size=len(images))
    paths[-1] = folder / "nncf.xml"
    openvino.save_model(theirs, paths[-1], compress_to_fp16=False)
    return paths


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    print(place())
    runtimes.read_info = lambda path: FileInfo()  # NNCF's is no ONNX file
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            paths = write(name, Path(folder))
            files = [runtimes.load(path, "openvino") for path in paths]
            *ours, nncf_times = latencies(files, rounds)
        print(name)
        for path, file, times in zip(paths, files, ours, strict=False):
            for batch in BATCHES:
                of = f"  {path.stem} ({file.precision}), batch {batch:>2}: NNCF's time over it"
                print(ratio(of, nncf_times[batch], times[batch]))
