"""Checkpoints: those of other programs are taken, those of another network with the same names are not."""

import argparse
import pickle
from collections import defaultdict
from hashlib import sha256

import numpy as np
import pytest
import torch

from sg_resnets.models import ResNet
from sg_resnets.models.zoo import ZOO
from sg_resnets.runs import checkpoints
from sg_resnets.utils.errors import SgResnetsError

ARCH = {"depth": 8, "widths": [4, 4, 4], "in_channels": 1}


def network(name="resnet20_cifar", **arch):
    return ResNet(ZOO[name].config.override(**{**ARCH, **arch}))


def behind(prefix, weights):
    return {prefix + key: value for key, value in weights.items()}


@pytest.mark.parametrize(
    "content",
    [
        lambda w: w,
        lambda w: {"net": w},
        lambda w: {"state_dict": behind("module.", w)},
        lambda w: {"model": w, "optimizer": {}, "epoch": 3},
        lambda w: behind("_orig_mod.", w),
        lambda w: behind("module._orig_mod.", w),
        lambda w: {"model_state_dict": w},
        lambda w: {"state_dict": behind("model.", w), "global_step": 5},
    ],
)
def test_checkpoints_of_other_programs_load(content, host, tmp_path):
    from super_gradients.common.data_types.enum import StrictLoad
    from super_gradients.training import models

    weights = network().state_dict()
    torch.save(content(weights), tmp_path / "x.pth")
    loaded = models.get(
        "resnet20_cifar",
        num_classes=10,
        arch_params=dict(ARCH),
        checkpoint_path=str(tmp_path / "x.pth"),
        strict_load=StrictLoad.ON,
    )
    assert all(torch.equal(value, weights[key]) for key, value in loaded.state_dict().items())


def test_a_checkpoint_with_objects_says_how_to_take_its_weights_out(tmp_path):
    torch.save({"model": network().state_dict(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "c.pth")
    with pytest.raises(SgResnetsError, match=r"torch.load\(.*weights_only=False\)\['model'\]"):
        checkpoints.read(tmp_path / "c.pth")


def torchscript(path):
    torch.jit.script(torch.nn.Linear(1, 1)).save(path)


@pytest.mark.parametrize(
    "write, words",
    [
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "x.pth is a text file: give a"),
        (torchscript, r"x.pth is a TorchScript program: .*torch\.jit\.load\('.*x.pth'\)\.state_dict\(\)"),
        (lambda path: path.write_bytes(b""), r"damaged or cut short \(0 bytes\)"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(99)), r"damaged or cut short \(103 bytes\)"),
        (lambda path: torch.save({1: torch.ones(1)}, path), "x.pth holds weights without names"),
        (lambda path: torch.save([1], path), "holds a list, not a state dict"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_file_that_is_no_checkpoint_is_called_what_it_is(tmp_path, write, words):
    write(tmp_path / "x.pth")
    with pytest.raises(SgResnetsError, match=words):
        checkpoints.read(tmp_path / "x.pth")


def test_a_name_under_net_is_no_weights(tmp_path):
    torch.save({"net": "resnet20", "state_dict": network().state_dict()}, tmp_path / "x.pth")
    assert set(checkpoints.read(tmp_path / "x.pth")["net"]) == set(network().state_dict())


def test_a_missing_checkpoint_and_weights_that_do_not_fit_are_pythons_errors_too(tmp_path):
    recipe = {"architecture": "resnet20_cifar", "arch_params": {**ARCH, "shortcut": "none"}}
    with pytest.raises(FileNotFoundError, match="no checkpoint at") as missing:
        checkpoints.read(tmp_path / "x.pth")
    with pytest.raises(FileNotFoundError, match="no run with"):
        checkpoints.read(tmp_path)
    with pytest.raises(RuntimeError, match="load it as it was trained") as misfit:
        checkpoints.refuse_twin(network(), "x.pth", recipe)
    for error in (missing.value, misfit.value):
        copy = pickle.loads(pickle.dumps(error))
        assert isinstance(error, SgResnetsError) and type(copy) is type(error) and str(copy) == str(error)


def test_other_classes_are_told_from_another_width():
    net = network()
    classes = network(num_classes=3).state_dict()
    assert "has 3 classes and ResNet 10" in checkpoints.explain_misfit(net, "x.pth", {"net": classes})
    wider = {**net.state_dict(), "fc.weight": torch.ones(10, 99)}
    told = checkpoints.explain_misfit(net, "x.pth", {"net": wider})
    assert told == "x.pth does not fit ResNet: 1 of another shape (such as fc.weight)"


def test_safetensors_hold_shared_weights_and_figures_that_are_tensors(tmp_path):
    shared = torch.randn(3, 4)
    state = {"net": {"a": shared, "b": shared, "c": shared.T, "d": shared[1:]}, "acc": torch.tensor(0.5)}
    checkpoints.write_safetensors({**state, "metrics": {"top5": np.float32(0.75)}}, tmp_path / "x.safetensors")
    read = checkpoints.read(tmp_path / "x.safetensors")
    assert (read["acc"], read["metrics"]) == (0.5, {"top5": 0.75})
    assert all(torch.equal(read["net"][key], tensor) for key, tensor in state["net"].items())
    with pytest.raises(SgResnetsError, match="a Namespace cannot be written as safetensors"):
        checkpoints.write_safetensors({**state, "metrics": argparse.Namespace()}, tmp_path / "x.safetensors")


def test_numpys_numbers_and_arrays_are_data(tmp_path):
    state = {"net": {}, "acc": np.float64(0.5), "processing_params": {"mean": np.ones(3), "size": np.int64(28)}}
    torch.save(state, tmp_path / "x.pth")
    read = checkpoints.read(tmp_path / "x.pth")
    assert read["acc"] == 0.5 and read["processing_params"]["size"] == 28


def test_what_we_write_is_read_by_torch_load_whatever_numbers_it_holds(tmp_path):
    figures = {"acc": np.float64(0.5), "sizes": [np.int64(3), (np.float32(1.5), "cat")], "flag": np.bool_(True)}
    figures = defaultdict(float, figures)
    checkpoints.write({"net": network().state_dict(), "metrics": figures}, tmp_path / "a.pth")
    assert torch.load(tmp_path / "a.pth")["metrics"] == {"acc": 0.5, "sizes": [3, (1.5, "cat")], "flag": True}


@pytest.mark.parametrize("change", [{}, {"shortcut": "none", "activation": "gelu"}, {"addition": "scaled"}])
def test_weights_of_another_network_with_the_same_names_are_refused(change):
    recipe = {"architecture": "resnet20_cifar", "arch_params": {**ARCH, "shortcut": "none", "num_classes": 10}}
    with pytest.raises(SgResnetsError, match=r"was trained as resnet20_cifar with .*load it as it was trained"):
        checkpoints.refuse_twin(network(**change), "x.pth", recipe)
    checkpoints.refuse_twin(network("plain20_cifar"), "x.pth", recipe)  # the same by another name


def test_an_https_checkpoint_is_judged_by_its_own_recipe(hub, tmp_path):
    from super_gradients.training import models

    def recipe(name):
        return {"architecture": name, "arch_params": {**ARCH, "num_classes": 10}}

    plain = {"net": network("plain20_cifar").state_dict(), "recipe": recipe("plain20_cifar")}
    torch.save(plain, tmp_path / "plain.pth")
    url = "https://example.org/residual.pth"
    own = f"{sha256(url.encode()).hexdigest()[:8]}_residual.pth"  # another address may have a file of this name
    torch.save({"net": network().state_dict(), "recipe": recipe("resnet20_cifar")}, hub / own)

    def get(name, path):
        return models.get(name, num_classes=10, arch_params=dict(ARCH), checkpoint_path=path)

    get("plain20_cifar", str(tmp_path / "plain.pth"))
    assert get("resnet20_cifar", url)
    with pytest.raises(SgResnetsError, match="was trained as resnet20_cifar"):
        get("plain20_cifar", url)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "x.pth"
    checkpoints.write({"net": 1}, path)

    def full(state, file):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(SgResnetsError, match=r"x.pth cannot be written \(No space left on device\): is the disk full"):
        checkpoints.write({"net": 2}, path)
    monkeypatch.undo()
    assert torch.load(path)["net"] == 1 and [file.name for file in tmp_path.iterdir()] == ["x.pth"]


def test_a_checkpoint_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"net": {"weight": torch.ones(3)}}, tmp_path / "x.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert checkpoints.read(tmp_path / "x.pth")["net"]["weight"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("place", [0.3, 0.6])
def test_a_flipped_bit_is_seen(tmp_path, place):
    torch.save({"net": {"weight": torch.ones(1000)}}, tmp_path / "x.pth")
    contents = bytearray((tmp_path / "x.pth").read_bytes())
    contents[int(place * len(contents))] ^= 1
    (tmp_path / "x.pth").write_bytes(contents)
    with pytest.raises(SgResnetsError, match=r"x\.pth is damaged or cut short"):
        checkpoints.read(tmp_path / "x.pth")
