"""What a user of a GPU is told. A GPU without memory is simulated by a network that takes no larger batch."""

import logging

import pytest
import torch
from torch import nn

from sg_resnets.host import gpu
from sg_resnets.models import ResNet
from sg_resnets.utils import hardware
from sg_resnets.utils.errors import SgResnetsError
from support import SMALL

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.11 GiB"


@pytest.fixture
def memory_for(monkeypatch):
    """memory_for(training, validation): networks then take no larger batch with gradients, and without."""

    def limit(*most):
        forward = ResNet.forward

        def limited(self, images):
            if len(images) > most[not torch.is_grad_enabled()]:
                raise torch.OutOfMemoryError(OUT_OF_MEMORY)
            return forward(self, images)

        monkeypatch.setattr(ResNet, "forward", limited)

    return limit


@pytest.mark.parametrize(
    ("most", "words"),
    [
        (
            (20, 500),
            r"^CUDA out of memory with dataset_params.train_\S+.batch_size=64: 16 fits, and .*=4 steps are as large$",
        ),
        ((64, 20), r"^CUDA out of memory with dataset_params.val_dataloader_params.batch_size=100: 12 fits$"),
        ((0, 0), r"^CUDA out of memory, and not for a single image either: take a smaller network, or smaller images$"),
    ],
)
def test_the_batch_that_fits_is_named(most, words, train, memory_for):
    memory_for(*most)
    with pytest.raises(SgResnetsError, match=words):
        train("batch_size=64", "dataset_params.val_dataloader_params.batch_size=100")


def test_a_compiler_that_fails_leaves_training_uncompiled(train, capfd):
    from torch._dynamo.backends import registry

    calls = []

    def broken(graph, inputs, **options):
        calls.append(graph)
        raise RuntimeError("there is no C++ compiler")

    registry.register_backend(broken, name="broken")
    try:
        network, _ = train(
            "training_hyperparams.torch_compile=True", "training_hyperparams.torch_compile_options={backend: broken}"
        )
    finally:
        del registry._COMPILER_FNS["broken"]
    said = [line for line in capfd.readouterr().err.splitlines() if "the compiler fails" in line]
    assert len(said) == len(calls) == 1 and "there is no C++ compiler" in said[0]
    eager, _ = train()
    torch.testing.assert_close(network.fc.weight, eager.fc.weight)


def test_a_compiler_that_there_is_not_is_one_line(train):
    with pytest.raises(SgResnetsError, match=r"torch_compile_options=.*inducto.*: Invalid backend: .inducto"):
        train(
            "training_hyperparams.torch_compile=True", "training_hyperparams.torch_compile_options={backend: inducto}"
        )


def test_an_error_of_the_network_itself_is_no_compilers(train, monkeypatch):
    def forward(self, images):
        return self.fc(images)

    monkeypatch.setattr(ResNet, "forward", forward)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train("training_hyperparams.torch_compile=True", "training_hyperparams.torch_compile_options={backend: eager}")


@pytest.mark.parametrize(
    ("given", "fused"),
    [
        ({"optimizer": "SGD"}, True),
        ({"optimizer": "AdamW", "optimizer_params": {"weight_decay": 0.1}}, True),
        ({"optimizer": "SGD", "optimizer_params": {"foreach": True}}, None),
        ({"optimizer": "SGD", "optimizer_params": {"fused": False}}, False),
        ({"optimizer": "Muon"}, None),
    ],
)
def test_optimisers_are_fused_on_a_gpu_unless_the_recipe_says_otherwise(given, fused, monkeypatch):
    assert gpu.with_fused_optimizer(given) is given
    monkeypatch.setattr(type(gpu.device_config), "is_cuda", property(lambda self: True))
    params = gpu.with_fused_optimizer(given).get("optimizer_params", {})
    assert params.get("fused") is fused
    assert {**given.get("optimizer_params", {}), **params} == params


def test_a_long_training_on_a_gpu_is_compiled_where_the_recipe_leaves_it_open(monkeypatch):
    network, others = ResNet(SMALL), nn.Flatten()
    assert gpu.with_compiled_network({"torch_compile": None}, network, 10**6) == {"torch_compile": False}
    monkeypatch.setattr(type(gpu.device_config), "is_cuda", property(lambda self: True))
    for given, of, steps, settled in (
        ({"torch_compile": None}, network, 10**6, True),
        ({"torch_compile": None}, network, 100, False),
        ({"torch_compile": None}, others, 10**6, False),
        ({"torch_compile": False}, network, 10**6, False),
        ({}, network, 10**6, None),
    ):
        assert gpu.with_compiled_network(given, of, steps).get("torch_compile") is settled


@pytest.mark.gpu
def test_a_gpu_that_runs_out_of_memory_is_one_line(train):
    limit = 256 * 2**20 / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(limit)
    try:
        with pytest.raises(SgResnetsError, match=r"batch_size=2048: \d+ fits, and with .*batch_accumulate="):
            train(
                "batch_size=2048", "++dataset_params.train_dataset_params.max_samples=2048", "arch_params.depth=56",
                "arch_params.widths=[16,32,64]",
            )  # fmt: skip
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_memory_of_the_step_that_failed_is_given_back(memory_for):
    """Or what would fit is found beside what did not."""
    held = []

    class Kept:
        def __del__(self):
            held.append("freed")

    class Trainer:
        net = nn.Flatten()

        def evaluate(self):
            kept = Kept()
            raise torch.OutOfMemoryError(f"{OUT_OF_MEMORY}{id(kept)}")

    with pytest.raises(SgResnetsError, match="set a smaller batch_size"):
        trainer = Trainer()
        with gpu.naming_the_batch_that_fits(trainer, None, None):
            try:
                trainer.evaluate()
            finally:
                assert not held
    assert held == ["freed"]


@pytest.mark.parametrize(
    ("visible", "cuda", "error", "words"),
    [
        ("", "13.0", None, "CUDA_VISIBLE_DEVICES hides it"),
        (None, None, None, "this PyTorch was built for CPUs: install one for CUDA"),
        (
            None,
            "13.0",
            "The NVIDIA driver on your system is too old\n(found version 11040)",
            "is too old (found version",
        ),
        (None, "13.0", None, "PyTorch does not find it"),
    ],
)
def test_a_gpu_that_is_left_idle_is_said(visible, cuda, error, words, monkeypatch, caplog):
    def init():
        if error:
            raise RuntimeError(error)

    monkeypatch.setattr(hardware.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(type(gpu.device_config), "device", "cpu")
    with caplog.at_level(logging.WARNING):
        gpu.say_if_idle()
    (record,) = caplog.records
    assert record.getMessage().startswith("training runs on the CPU, though this machine has an NVIDIA GPU: ")
    assert words in record.getMessage() and "\n" not in record.getMessage()


def test_nothing_is_said_without_a_gpu(monkeypatch, caplog):
    monkeypatch.setattr(hardware.shutil, "which", lambda name: None)
    monkeypatch.setattr(hardware.Path, "exists", lambda self: False)
    gpu.say_if_idle()
    assert not caplog.records
