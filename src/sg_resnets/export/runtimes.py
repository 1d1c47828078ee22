"""What runs ONNX files: ONNX Runtime, and on this machine perhaps OpenVINO, or ONNX Runtime on a GPU, with TensorRT
there or without. Each says what it computes in: OpenVINO takes bfloat16 for a float file where the CPU has it."""

import importlib.metadata
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from sg_resnets.export.onnx import has_wide_weights, read_info
from sg_resnets.utils.errors import SgResnetsError, choices, one_line
from sg_resnets.utils.hardware import has_int8_kernels, has_nvidia_gpu

OPENVINO_EXTRA = 'pip install "sg-resnets[openvino]"'
OLDEST_OPENVINO = 2024
PROVIDERS = {  # of ONNX Runtime, by our name
    "onnxruntime": "CPUExecutionProvider",
    "onnxruntime_cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
NAMES = {
    "onnxruntime": "ONNX Runtime",
    "onnxruntime_cuda": "ONNX Runtime, CUDA",
    "tensorrt": "TensorRT",
    "openvino": "OpenVINO",
}
TYPES = {"u8": "int8", "i8": "int8", "bf16": "bfloat16", "f16": "float16", "f32": "float32"}  # as OpenVINO has them
EXACT = "session.x64quantprecision"  # of ONNX Runtime, for CPUs whose fast 8-bit kernels overflow


@dataclass(frozen=True)
class Loaded:
    """A file in a runtime.

    Attributes:
        runtime: its name, as it is shown.
        precision: what its convolutions and linear layers compute in, the most of them first.
        shape: of the images that it takes, N, C, H, W; 0 for a free one.
        uint8: whether it takes pixels 0..255.
        run: images (N, C, H, W) to logits (N, K).
        option: without which it computes something else here.
        overflows: whether it can name wrong classes here, and no option helps.
    """

    path: Path
    runtime: str
    precision: str
    shape: tuple[int, ...]
    uint8: bool
    run: Callable[[np.ndarray], np.ndarray]
    option: str = ""
    overflows: bool = False

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Run it.

        Raises:
            SgResnetsError: it takes other images, or more than images, gives no logits, or there is no memory for them.
        """
        kind = np.uint8 if self.uint8 else np.float32
        pairs = zip(self.shape, images.shape, strict=False)
        fits = len(images.shape) == len(self.shape) and all(side in (0, given) for side, given in pairs)
        if not fits or images.dtype != kind:  # OpenVINO would read beyond the images
            shape = ", ".join(str(side or free) for side, free in zip(self.shape, "NCHW", strict=False))
            raise SgResnetsError(
                f"{self.path} takes one input of ({shape}), tensor({'uint8' if self.uint8 else 'float'}), and was "
                f"given {images.shape}, {images.dtype}: compare files of the same images, with a free batch size"
            )
        try:
            logits = self.run(images)
        except Exception as error:  # the exceptions of runtimes share no class
            raise SgResnetsError(
                f"{self.runtime} cannot run {self.path} on {images.shape}: {one_line(error)[:200]}"
            ) from None
        if logits.ndim != 2 or len(logits) != len(images):
            raise SgResnetsError(f"{self.path} makes {logits.shape} of {images.shape}: logits are (N, classes)")
        return logits


def installed() -> list[str]:
    """Return which runtimes this machine has, ONNX Runtime on the CPU first."""
    import onnxruntime

    there = onnxruntime.get_available_providers()
    found = [name for name, provider in PROVIDERS.items() if provider in there]
    return found + (["openvino"] if why_no_openvino() is None else [])


def why_no_openvino() -> str | None:
    """Return what to do to have OpenVINO; None where it is there."""
    version = openvino_version()
    if version is None:
        return f"OpenVINO is not installed ({OPENVINO_EXTRA})"
    if int(version.partition(".")[0]) < OLDEST_OPENVINO:
        return f"OpenVINO {version} is too old: {OLDEST_OPENVINO} or later is needed ({OPENVINO_EXTRA})"
    try:
        import openvino  # noqa: F401
    except Exception as error:  # of a library that it wants, or its own
        return f"OpenVINO {version} cannot be imported: {one_line(error)[:200]} ({OPENVINO_EXTRA})"
    return None


def openvino_version() -> str | None:
    """Return the version of the OpenVINO that is installed, if it is; old ones do not say it when imported."""
    try:
        return importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> list[str]:
    """Return the names and versions of the runtimes' packages."""
    import onnxruntime

    found = [f"ONNX Runtime {onnxruntime.__version__}"]
    if "openvino" in installed():
        found.append(f"OpenVINO {openvino_version()}")
    return found


def load(path: Path, runtime: str = "onnxruntime", threads: int = 1) -> Loaded:
    """Load a file.

    Raises:
        SgResnetsError: the runtime is not here, or cannot run the file.
    """
    if runtime not in NAMES:
        raise SgResnetsError(f"unknown runtime '{runtime}': {choices(runtime, NAMES)}")
    if runtime not in installed():
        why = why_no_openvino() if runtime == "openvino" else None
        raise SgResnetsError(
            why or f"{NAMES[runtime]} is not here: pip install onnxruntime-gpu, on a machine with its libraries"
        )
    return _openvino(path, threads) if runtime == "openvino" else _onnxruntime(path, runtime, threads)


def _onnxruntime(path: Path, runtime: str, threads: int) -> Loaded:
    """Where its fast kernels on the CPU would overflow, with those that do not."""
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder, "optimised.onnx")
        session = onnxruntime_session(path, runtime, threads, optimised if runtime == "onnxruntime" else None)
        precision = _of_graph(optimised if optimised.is_file() else path)
    if runtime == "tensorrt":  # which does not say what it has chosen
        precision = "int8 or float16" if read_info(path).kind != "fp32" else "float16 or float32"
    takes = _one_input(path, session.get_inputs())
    return Loaded(
        path=path,
        runtime=NAMES[runtime],
        precision=precision,
        shape=_sides(takes.shape),
        uint8=takes.type == "tensor(uint8)",
        run=lambda images: session.run(None, {takes.name: images})[0],
        option=f"{EXACT}=1" if session.get_session_options().get_session_config_entry(EXACT) == "1" else "",
    )


def onnxruntime_session(path: Path, runtime: str = "onnxruntime", threads: int = 1, optimised: Any = None) -> Any:
    """Return its session, and write the graph that it runs to `optimised`.

    Raises:
        SgResnetsError: ONNX Runtime cannot run the file, or not on the GPU.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry(EXACT, "1" if overflows(path) else "0")
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    providers: list[Any] = [PROVIDERS[runtime]]
    if runtime == "tensorrt":
        providers = [(providers[0], {"trt_int8_enable": read_info(path).kind != "fp32", "trt_fp16_enable": True})]
    if runtime != "onnxruntime":
        providers.append(PROVIDERS["onnxruntime"])  # for what the GPU does not do
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # its exceptions share no class
        raise SgResnetsError(f"ONNX Runtime cannot run {path}: {one_line(error)[:200]}") from None
    if session.get_providers()[0] != PROVIDERS[runtime]:  # it would go on with the CPU
        raise SgResnetsError(f"{NAMES[runtime]} does not start: is there a GPU, with a driver and libraries for it?")
    return session


def overflows(path: Path) -> bool:
    """Whether the fast 8-bit kernels of this CPU give wrong results for a file: ONNX Runtime's without `EXACT`,
    OpenVINO's always."""
    return not has_int8_kernels() and has_wide_weights(path)


def _of_graph(path: Path) -> str:
    """What ONNX Runtime computes the convolutions and linear layers of a graph in: those in which a convolution still
    follows a DequantizeLinear in float32."""
    import onnx

    found = Counter[str]()
    for node in onnx.load(path, load_external_data=False).graph.node:
        if any(kind in node.op_type for kind in ("Conv", "Gemm", "MatMul")):
            integer = node.op_type.startswith(("QLinear", "QGemm", "DynamicQuantize")) or "Integer" in node.op_type
            found["int8" if integer else "float32"] += 1
    return _most_first(found)


@cache
def _core() -> Any:
    """OpenVINO, once a process: each makes a stack for signals, and two that end in the order in which they began leave
    the process with one that is freed, so that the next signal kills it."""
    import openvino

    return openvino.Core()


def _openvino(path: Path, threads: int) -> Loaded:
    import openvino

    read_info(path)
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    try:
        compiled = _core().compile_model(path, "CPU", settings)
    except Exception as error:
        raise SgResnetsError(f"OpenVINO cannot run {path}: {one_line(error)[:200]}") from None
    request, takes = compiled.create_infer_request(), _one_input(path, compiled.inputs)
    found = Counter[str]()
    for each in compiled.get_runtime_model().get_ops():
        layer, kind = (each.get_rt_info()[key].astype(str) for key in ("layerType", "runtimePrecision"))
        if layer in ("Convolution", "FullyConnected", "MatMul"):
            found[TYPES.get(kind, kind)] += 1
    return Loaded(
        path=path,
        runtime=NAMES["openvino"],
        precision=_most_first(found),
        shape=_sides([side.get_length() if side.is_static else "" for side in takes.partial_shape]),
        uint8=takes.element_type == openvino.Type.u8,
        run=partial(_infer, request),
        overflows=overflows(path),
    )


def _infer(request: Any, images: np.ndarray) -> np.ndarray:
    return request.infer([np.ascontiguousarray(images)])[0].copy()


def _one_input(path: Path, inputs: Sequence[Any]) -> Any:
    if len(inputs) != 1:
        raise SgResnetsError(f"{path} takes {len(inputs)} inputs: networks that take images alone can be run")
    return inputs[0]


def _most_first(found: Counter[str]) -> str:
    return ", ".join(name for name, _ in found.most_common()) or "unknown"


def _sides(shape: Any) -> tuple[int, ...]:
    return tuple(side if isinstance(side, int) else 0 for side in shape)


def load_everywhere(path: Path) -> tuple[list[Loaded], list[str]]:
    """Load a file into each runtime that is here, one thread; and return what was left out, a line each.

    Raises:
        SgResnetsError: ONNX Runtime cannot run it on the CPU.
    """
    loaded, left_out = [load(path)], []
    for runtime in installed()[1:]:
        try:
            loaded.append(load(path, runtime))
        except SgResnetsError as error:
            left_out.append(f"left out: {error}")
    missing = [why_no_openvino()]
    if has_nvidia_gpu() and "onnxruntime_cuda" not in installed():
        missing.append("the GPU: this ONNX Runtime is for CPUs (pip install onnxruntime-gpu)")
    return loaded, left_out + [f"left out: {why}" for why in missing if why]
