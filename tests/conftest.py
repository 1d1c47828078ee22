"""What the tests of several folders share: SuperGradients, imported and repaired; our recipes made small enough to
train in a second; commands; networks and images."""

import hashlib
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import absl.logging
import numpy as np
import pytest
import torch

import warm
from support import ENVIRONMENT, GREY_8, SCRIPT, TINY

# Hydra's logging closes the handlers that there are, and absl's, which OpenVINO brings, its stream: that is pytest's.
absl.logging.get_absl_handler().python_handler.setStream(sys.__stderr__)
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job ignores


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


# SuperGradients and its recipes.


@pytest.fixture(scope="session")
def host():
    """super_gradients, imported and repaired."""
    import super_gradients

    return super_gradients


@pytest.fixture
def compose(host):
    """compose(recipe, overrides...) -> the recipe as SuperGradients' entry point would see it, in its small form."""
    from super_gradients import init_trainer
    from super_gradients.common.environment.cfg_utils import load_recipe

    init_trainer()

    def make(*overrides, recipe="fashion_mnist_mini_resnet20", tiny=True):
        return load_recipe(recipe, overrides=[*(TINY if tiny else []), *overrides])

    return make


@pytest.fixture
def train(compose, tmp_path, host):
    """train(overrides...) -> (network, run folder): trains the small recipe by SuperGradients' `train_from_config`."""

    def run(*overrides, **kwargs):
        if not any(override.startswith("ckpt_root_dir=") for override in overrides):
            overrides = (f"ckpt_root_dir={tmp_path}", *overrides)
        cfg = compose(*overrides, **kwargs)
        network, _ = host.Trainer.train_from_config(cfg)
        return network, sorted(Path(cfg.ckpt_root_dir, cfg.experiment_name).glob("RUN_*"))[-1]

    return run


# Runs that others start from: a teacher to be distilled, a float network to be quantised.


@pytest.fixture(scope="session")
def teacher(host, tmp_path_factory):
    """The checkpoint of a small teacher, trained for three epochs."""
    from super_gradients import init_trainer
    from super_gradients.common.environment.cfg_utils import load_recipe

    init_trainer()
    folder = tmp_path_factory.mktemp("teacher")
    overrides = [f"ckpt_root_dir={folder}", "epochs=3", "batch_size=64", "lr=0.05", "+arch_params.depth=8"]
    overrides += [
        f"+dataset_params.{split}_dataset_params.max_samples={n}" for split, n in (("train", 1024), ("val", 256))
    ]
    host.Trainer.train_from_config(load_recipe("fashion_mnist_mini_resnet20", overrides=overrides))
    return next(folder.glob("*/RUN_*/ckpt_best.pth"))


@pytest.fixture(scope="session")
def float_run(host, tmp_path_factory):
    """The folder of a small float network's run."""
    from super_gradients import Trainer, init_trainer
    from super_gradients.common.environment.cfg_utils import load_recipe

    init_trainer()
    root = tmp_path_factory.mktemp("float")
    torch.set_num_threads(1)
    Trainer.train_from_config(load_recipe("fashion_mnist_mini_resnet20", overrides=[*TINY, f"ckpt_root_dir={root}"]))
    return next(root.glob("*/RUN_*"))


# Commands.


@pytest.fixture
def run_python():
    """run_python(*args, cwd=...) -> CompletedProcess of a fresh interpreter, as a user starts it."""

    def run(*args, cwd, **env):
        return subprocess.run(
            [sys.executable, *map(str, args)],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, **ENVIRONMENT, **env},
        )

    return run


@pytest.fixture
def run_warm():
    """run_warm(*args, cwd=...) -> the same, of a process that has imported SuperGradients already: seconds fewer."""

    def run(*args, cwd, **env):
        return warm.run(args, cwd, {**os.environ, **ENVIRONMENT, **env})

    return run


@pytest.fixture
def sg_resnets_command(run_warm):
    """sg_resnets_command("models", ...) -> CompletedProcess of the command."""

    def run(*args, cwd, **env):
        return run_warm(SCRIPT, *args, cwd=cwd, **env)

    return run


@pytest.fixture
def command(monkeypatch, capsys, host):
    """command("evaluate", run) -> (exit code, printed, error): the command in this process, as its script runs it."""
    from sg_resnets import cli

    def run(*args):
        monkeypatch.setattr("sys.argv", ["sg-resnets", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        code = stopped.value.code
        said = capsys.readouterr()
        return (1 if isinstance(code, str) else code or 0), said.out, code if isinstance(code, str) else said.err

    return run


# Images.


@pytest.fixture
def images():
    """Four grey ones."""
    return torch.randn(4, 1, 28, 28)


@pytest.fixture(scope="session")
def batch():
    """64 training images of the course, and their labels."""
    from sg_resnets.course.setups import COURSE, load_images

    return load_images(COURSE, train=True, count=64)


@pytest.fixture(scope="session")
def images_and_labels(host):
    """All test images of the embedded subset, normalised, and their labels."""
    from sg_resnets.data import in_memory

    return in_memory("fashion_mnist_mini", train=False).__getitems__(range(2000))


@pytest.fixture(scope="session")
def train_batches(host):
    """16 batches of 64 training images, as they are evaluated."""
    from sg_resnets.data import in_memory

    images, labels = in_memory("fashion_mnist_mini", train=True).__getitems__(range(0, 12000, 11))
    return list(zip(images.split(64), labels.split(64), strict=True))[:16]


@pytest.fixture
def picture_folder(tmp_path):
    """train/ and val/ with two images each of a cat and a dog."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, name in itertools.product(("train", "val"), ("cat", "dog")):
        (tmp_path / split / name).mkdir(parents=True)
        for i, shape in enumerate([(51, 40, 3), (40, 73, 3)]):
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / split / name / f"{i}.png")
    return tmp_path


# Networks.


@pytest.fixture
def get(host):
    """SuperGradients' `models.get`."""
    from super_gradients.training import models

    return models.get


@pytest.fixture
def downloads(tmp_path, monkeypatch):
    """An empty folder of downloads."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.delenv("SG_RESNETS_MIRROR", raising=False)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.fixture
def hub(downloads, monkeypatch):
    """An empty folder of downloads, and no network."""

    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    return downloads


@pytest.fixture
def resnet18(hub, monkeypatch):
    """torchvision's resnet18 with random weights, as the file that its weights' metadata asks for."""
    import torchvision

    network = torchvision.models.resnet18().eval()
    torch.save(network.state_dict(), hub / "file")
    digits = hashlib.sha256((hub / "file").read_bytes()).hexdigest()[:8]
    (hub / "file").rename(hub / f"resnet18-{digits}.pth")
    member = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    changed = type(member.value)(f"https://x.org/resnet18-{digits}.pth", member.transforms, member.meta)
    only = SimpleNamespace(__members__={"IMAGENET1K_V1": changed})
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda name: only)
    return network


@pytest.fixture
def distiller(host):
    """distiller(taps=..., teacher_input=...) -> a student of widths 4, 8, 16 and a teacher of twice as many."""
    from super_gradients.training.utils import HpmStruct

    from sg_resnets.host.distillation import RegisteredDistiller as Distiller
    from sg_resnets.models import ResNet
    from sg_resnets.models.zoo import ZOO

    def make(**arch_params):
        config = ZOO["resnet20_cifar"].config
        student, teacher = (ResNet(config.override(**GREY_8, widths=widths)) for widths in ([4, 8, 16], [8, 16, 32]))
        return Distiller(HpmStruct(**arch_params), student, teacher)

    return make


@pytest.fixture(scope="session")
def trained(host):
    """The shipped ResNet-20."""
    from super_gradients.training import models

    return models.get("resnet20_cifar", num_classes=10, pretrained_weights="fashion_mnist").eval()


@pytest.fixture
def write(tmp_path):
    """write(network, name, target) -> the ONNX file of a network that takes (N, 1, 28, 28)."""
    from sg_resnets.export import onnx as onnx_file
    from sg_resnets.quantization.params import QuantizationParams

    def make(network, name="int8", target="onnxruntime", shape=(1, 28, 28), opset=17, dynamic_size=False, **info):
        path = tmp_path / f"{name}.onnx"
        integer_bias = QuantizationParams(target=target).runtime.integer_bias
        onnx_file.write(network, path, shape, onnx_file.FileInfo(**info), integer_bias, opset, dynamic_size)
        return path

    return make
