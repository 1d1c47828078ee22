"""`sg-resnets doctor`: what is installed, which repairs are active and why, what this machine can train with."""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sg_resnets.host import activation
from sg_resnets.host.activation import INSTALL
from sg_resnets.utils.hardware import cpu_cores, cpu_name, has_int8_kernels, why_gpu_is_idle

PACKAGES = (
    "torch",
    "torchvision",
    "super-gradients",
    "data-gradients",
    "torchmetrics",
    "hydra-core",
    "numpy",
    "onnxruntime",
)


def examine() -> int:
    """Print the findings; return the exit code, 1 where training cannot work."""
    problems: list[str] = []
    print(f"python              {sys.version.split()[0]}")
    for package in PACKAGES:
        try:
            print(f"{package:<19} {version(package)}")
        except PackageNotFoundError:
            print(f"{package:<19} missing")
            how = INSTALL if package in ("super-gradients", "data-gradients") else f"pip install {package}"
            problems.append(f"{package} is missing: {how}")
    if not problems:
        problems += _devices() + _repairs()
        _data_sets()
    for problem in problems:
        print(f"\nPROBLEM  {problem}")
    print("\ntraining cannot work here yet" if problems else "\nready to train")
    return 1 if problems else 0


def _devices() -> list[str]:
    try:
        import torch
    except Exception as error:  # a broken installation fails in many ways
        return [f"torch cannot be imported ({error}): install it again, `make install`"]
    from sg_resnets.training.precision import mixed_dtype

    print("\ndevices")
    cuda = torch.cuda.is_available()
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    print(f"  cuda              {names if cuda else 'none: training runs on the CPU'}")
    idle = why_gpu_is_idle()
    if idle:
        print(f"                    there is an NVIDIA GPU, but {idle}")
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"  cpu               {cpu_name()}, {torch.get_num_threads()} threads of {cpu_cores()} cores, {capability}")
    device = "cuda" if cuda else "cpu"
    reasons = {
        torch.bfloat16: f"bfloat16: the {device} computes in it",
        torch.float16: "float16, the losses scaled: this GPU is older than Ampere and has no bfloat16",
        None: "none, float32: this CPU has neither AMX nor AVX512-BF16, so bfloat16 would be slower",
    }
    print(f"  mixed precision   {reasons[mixed_dtype(device)]}")
    slow = "no VNNI or AMX: quantise with reduce_range=True, or fast 8-bit kernels overflow"
    print(f"  int8              {'fast and exact' if has_int8_kernels() else slow}")
    return []


def _repairs() -> list[str]:
    try:
        import super_gradients
    except Exception as error:
        return [f"super_gradients cannot be imported ({type(error).__name__}: {error}): run `make install`"]
    activation.activate()
    if not getattr(super_gradients, "_sg_resnets_active", False):
        return [f"sg-resnets could not repair super_gradients: {activation.problem()}"]
    from sg_resnets.host.installed import REPAIRS

    print(f"\nwhat is mended in super-gradients {super_gradients.__version__}, or added to it")
    print("  (always)               the import copies the console to ~/sg_logs and reports its own pins as failures")
    without = activation.switched_off([repair.name for repair in REPAIRS])
    for repair in REPAIRS:
        print(f"  {repair.name:<22} {'SWITCHED OFF: ' if repair.name in without else ''}{repair.fault}")
    return []


def _data_sets() -> None:
    from sg_resnets.data import fashion_mnist

    print("\ndata sets")
    print("  fashion_mnist_mini  embedded")
    for name, places in {
        "fashion_mnist": (fashion_mnist.SYSTEM_FOLDER, Path("data/FashionMNIST/raw")),
        "cifar10": (Path("data/cifar-10-batches-py"),),
        "cifar100": (Path("data/cifar-100-python"),),
    }.items():
        folders = [str(place) for place in places if Path(place).is_dir()]
        print(f"  {name:<18}  {folders[0] if folders else 'not here: downloaded into ./data when first used'}")
