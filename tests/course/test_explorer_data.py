"""The data of the explorer: its files compute what the networks compute, and the stored ones are what they say."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sg_resnets.course import claims, explorer_data, gates, setups
from sg_resnets.course.setups import COURSE, untrained
from sg_resnets.data import in_memory
from sg_resnets.diagnostics import lesion
from sg_resnets.diagnostics.shattered import calibrated
from sg_resnets.models import ResNet, named_blocks
from support import ROOT, optimised

DATA = ROOT / "docs" / "explorer" / "data"
STORED = json.loads((DATA / "networks.json").read_text())
KINDS = ("plain", "resnet")
NAMES = [row["name"] for row in STORED["networks"]]
SMALL = replace(COURSE, samples=256, epochs=1)


@pytest.fixture(scope="module")
def data():
    """50 pictures, float32 (N, 1, 28, 28), grey values; and what the recipe makes of them, (N, 1, 14, 14)."""
    images, _ = in_memory("fashion_mnist_mini", train=False, size=14).__getitems__(range(50))
    return in_memory("fashion_mnist_mini", train=False).images[:50].float().numpy(), images


@pytest.fixture(params=KINDS)
def network(request, batch):
    """A network whose batch-norms have statistics, and so has something to fold."""
    return calibrated(untrained(f"{request.param}20_cifar", depth=14), batch[0]).eval()


def test_pictures_are_halved_as_the_recipes_data_is():
    whole, half = (in_memory("fashion_mnist_mini", train=False, size=size).images for size in (28, 14))
    matrix = gates.halving(28)
    rows = torch.floor(whole.float() @ matrix.T + 0.5)
    assert torch.equal(torch.floor(matrix @ rows + 0.5), half.float())


@torch.no_grad()
def test_a_file_computes_every_block_with_its_gates(network, data, tmp_path):
    pictures, images = data
    gates.write_float(network, tmp_path / "net.onnx")
    blocks = named_blocks(network).values()
    for _ in range(3):
        branch, shortcut = torch.rand(2, len(blocks)) * 1.5
        x = F.relu(network.bn1(network.conv1(images)))
        features = [x]
        for i, block in enumerate(blocks):
            residual = block.residual(x)
            skip = x if x.shape == residual.shape else F.pad(x[:, :, ::2, ::2], 4 * [0] + 2 * [x.shape[1] // 2])
            x = F.relu(branch[i] * residual + shortcut[i] * skip)
            features += [x] if i % 2 else []
        expected = [network.fc(x.mean((2, 3))), *features]
        found = gates.run(tmp_path / "net.onnx", pictures, branch, shortcut)
        for ours, theirs in zip(found, expected, strict=True):
            assert np.abs(ours - theirs.numpy()).max() < 1e-4
    shapes = [(50, 10), (50, 8, 14, 14), (50, 8, 14, 14), (50, 16, 7, 7), (50, 32, 4, 4)]
    assert [output.shape for output in found] == shapes


@torch.no_grad()
def test_without_a_block_a_file_is_the_network_without_it(network, data, tmp_path):
    pictures, images = data
    gates.write_float(network, tmp_path / "net.onnx")
    trained = float(network.config.shortcut != "none")
    for i, name in enumerate(named_blocks(network)):
        branch, shortcut = (np.full(6, value, np.float32) for value in (1.0, trained))
        branch[i], shortcut[i] = 0, 1
        with lesion.without(network, name):
            expected = network(images).numpy()
        assert np.abs(gates.run(tmp_path / "net.onnx", pictures, branch, shortcut)[0] - expected).max() < 1e-4


def test_an_int8_file_has_integer_kernels_and_gates(network, data, batch, tmp_path):
    pictures, _ = data
    gates.write_float(network, tmp_path / "float.onnx")
    gates.write_int8(network, batch[0], tmp_path / "int8.onnx")
    kernels = optimised(tmp_path / "int8.onnx", tmp_path)
    assert kernels["QLinearConv"] == 13 and kernels["QGemm"] == 1 and not {"Conv", "FusedConv", "Gemm"} & set(kernels)
    assert (tmp_path / "int8.onnx").stat().st_size < 0.6 * (tmp_path / "float.onnx").stat().st_size
    ones, shortcut = gates.as_trained(network)
    for branch in (ones, [1, 0.5, 1, 1, 0.5, 1]):
        exact, rounded = (
            gates.run(tmp_path / f"{kind}.onnx", pictures, branch, shortcut)[0] for kind in ("float", "int8")
        )
        assert np.abs(exact - rounded).max() < 0.1 * np.abs(exact).max()
    assert (
        np.abs(exact - gates.run(tmp_path / "int8.onnx", pictures, ones, shortcut)[0]).max() > 0.2 * np.abs(exact).max()
    )


@pytest.fixture
def in_this_process(monkeypatch, host):
    """Networks are trained here, one after the other, and not in processes that must be started."""
    monkeypatch.setattr(
        explorer_data, "train_all", lambda jobs, folder: [restored(*setups._train(job, str(folder))) for job in jobs]
    )


def test_a_folder_that_cannot_be_made_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["explorer_data", "--folder", __file__])
    with pytest.raises(SystemExit, match=r"--folder=.*: the folder cannot be made \(File exists\): give another$"):
        explorer_data.main()


def restored(config, state, records):
    network = ResNet(config)
    network.load_state_dict(state)
    return setups.Trained(network, records)


def test_the_same_command_writes_the_same_files(in_this_process, tmp_path, monkeypatch):
    folders = [tmp_path / "one", tmp_path / "other"]
    monkeypatch.setattr(explorer_data, "KINDS", {"plain, no norm": explorer_data.KINDS["plain, no norm"]})
    for folder in folders:
        explorer_data.make(folder, SMALL, (8,), SMALL, (8,))
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert files[0] == files[1]
    assert set(files[0]) == {
        *(f"{kind}8{end}.onnx" for kind in KINDS for end in ("", "_int8")),
        *("pictures.bin", "networks.json", "depths.json", "README.md", "FASHION_MNIST_LICENSE"),
    }
    assert files[0]["pictures.bin"] == (DATA / "pictures.bin").read_bytes()
    assert keys(json.loads(files[0]["networks.json"])) == keys(STORED)
    made, stored = json.loads(files[0]["depths.json"]), json.loads((DATA / "depths.json").read_text())
    assert keys(made["networks"]["plain, no norm"]["8"]) == keys(stored["networks"]["plain, no norm"]["8"])
    assert made.keys() == stored.keys()


def keys(value):
    """The names in a JSON object and in what it holds; of a list those of its last entry; blocks have names of their
    own."""
    if isinstance(value, dict):
        return {key: None if key == "without" else keys(each) for key, each in value.items()}
    return keys(value[-1]) if isinstance(value, list) and value else None


def test_a_run_that_diverges_is_data_too(in_this_process, tmp_path, monkeypatch):
    monkeypatch.setattr(explorer_data, "KINDS", {"residual, no norm": explorer_data.KINDS["residual, no norm"]})
    job = explorer_data._job
    monkeypatch.setattr(explorer_data, "_job", lambda *args: job(*args, "training_hyperparams.initial_lr=1e9"))
    said = explorer_data.train_curves(replace(SMALL, epochs=3), (8,), tmp_path)
    explorer_data.write_json(tmp_path / "depths.json", said)
    epochs = json.loads((tmp_path / "depths.json").read_text())["networks"]["residual, no norm"]["8"]["epochs"]
    assert epochs["train_loss"] == [None] and 0 <= epochs["test_accuracy"][0] <= 1


# The stored files.


@pytest.fixture(scope="module")
def shown():
    """(the page's pictures (500, 1, 28, 28), their labels (500,)), of the stored file."""
    contents = np.frombuffer((DATA / "pictures.bin").read_bytes(), np.uint8)
    pictures, labels = contents[:-500].reshape(500, 1, 28, 28), contents[-500:]
    assert (np.bincount(labels) == 50).all()
    return pictures.astype(np.float32), labels


def test_the_stored_files_are_small_and_listed():
    listed = {row[kind]["file"]: row[kind]["bytes"] for row in STORED["networks"] for kind in ("float", "int8")}
    assert {path.name: path.stat().st_size for path in DATA.glob("*.onnx")} == listed and len(listed) == 12
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 5e6
    assert (DATA / "depths.json").stat().st_size < 300e3
    assert "MIT" in (DATA / "README.md").read_text() and "Zalando" in STORED["licence"]


def gates_of(row):
    return [1.0] * len(row["blocks"]), [float(row["kind"] == "resnet")] * len(row["blocks"])


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_file_gives_the_stored_logits_and_accuracies(name, shown):
    row = next(row for row in STORED["networks"] if row["name"] == name)
    pictures, labels = shown
    answers = {}
    for kind in ("float", "int8"):
        found = gates.run(DATA / row[kind]["file"], pictures, *gates_of(row))[0]
        answers[kind] = found.argmax(1)
        assert (answers[kind] == labels).mean() == pytest.approx(row[kind]["accuracy"]["pictures"], abs=0.002)
        if kind == "float":
            assert found[:8] == pytest.approx(np.float32(row["logits"]), abs=1e-4)
    agreement = (answers["float"] == answers["int8"]).mean()
    assert agreement == pytest.approx(row["int8"]["agreement"]["pictures"], abs=0.002)
    assert row["int8"]["agreement"]["test"] >= (0.98 if name == "plain56" else 0.99)  # it magnifies what is rounded


@pytest.mark.parametrize("name", [f"{kind}20" for kind in KINDS])
def test_a_stored_file_without_a_block_has_the_stored_accuracy(name, shown):
    row = next(row for row in STORED["networks"] if row["name"] == name)
    pictures, labels = shown
    found = {}
    for i, block in enumerate(row["blocks"]):
        branch, shortcut = gates_of(row)
        branch[i], shortcut[i] = 0.0, 1.0
        logits = gates.run(DATA / row["float"]["file"], pictures, branch, shortcut)[0]
        found[block] = (logits.argmax(1) == labels).mean()
    assert found == pytest.approx(row["without"], abs=0.002)


def test_the_stored_networks_show_what_the_course_claims():
    lost = {row["name"]: row["mean_loss"] for row in STORED["networks"]}
    assert claims.lesion(lost)
