"""What this machine's processors can do, and what they are called."""

import functools
import os
import platform
import shutil
import warnings
from pathlib import Path


@functools.cache
def _cpu_info() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.is_file() else ""


def cpu_name() -> str:
    """Return the processor's name."""
    names = [line.partition(": ")[2] for line in _cpu_info().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cpu_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_int8_kernels() -> bool:
    """Whether the CPU multiplies 8-bit integers without overflow: x86 with VNNI or AMX, and all other architectures.

    The uint8 x int8 kernels of ONNX Runtime and OpenVINO for older x86 CPUs add pairs of products in 16 bits (their
    documentations, 'Quantize ONNX models', on AVX2 and AVX512; 'Saturation (overflow) issue').
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return True
    return any(name in _cpu_info() for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


def computes_in_bfloat16(device: str) -> bool:
    """Whether the device has bfloat16 arithmetic: CPUs with AMX or AVX512-BF16, GPUs from Ampere on."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(getattr(torch.cpu, f"_is_{feature}_supported", bool)() for feature in ("amx_tile", "avx512_bf16"))


def has_nvidia_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU, whatever can use it."""
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def why_gpu_is_idle() -> str | None:
    """Return why PyTorch does not use this machine's NVIDIA GPU; None where it does, or there is none."""
    import torch

    if not has_nvidia_gpu() or torch.cuda.is_available():
        return None
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides it"
    if torch.version.cuda is None:
        return "this PyTorch was built for CPUs: install one for CUDA, see https://pytorch.org/get-started/locally"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.cuda.init()
    except Exception as error:  # an old driver, or none: its exceptions share no class
        return " ".join(str(error).split())[:200]
    return "PyTorch does not find it"
