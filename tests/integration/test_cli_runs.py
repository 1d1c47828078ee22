"""The `sg-resnets` command on runs: evaluate, predict, resume, compare, export."""

import shutil
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread
from PIL import Image
from safetensors import safe_open

from sg_resnets.data import in_memory
from sg_resnets.data.fashion_mnist import CLASS_NAMES
from sg_resnets.export.runtimes import installed
from sg_resnets.runs.checkpoints import read


def test_evaluate_prints_a_table_for_a_run_an_experiment_and_a_checkpoint_that_left_its_folder(
    command, train, tmp_path
):
    network, run = train("epochs=2")
    parameters = sum(p.numel() for p in network.parameters())
    best = torch.load(run / "ckpt_best.pth")
    moved = tmp_path / "elsewhere.pth"
    shutil.copy(run / "ckpt_best.pth", moved)
    for path in (run, run.parent, run / "ckpt_best.pth", moved):
        code, out, _ = command("evaluate", path)
        figures, by_class, page = out.replace("test Accuracy", "test_accuracy").split("\n\n")
        table = dict(line.split(maxsplit=1) for line in figures.splitlines())
        assert code == 0 and float(table["test_accuracy"]) == pytest.approx(best["acc"], abs=1e-4)
        assert table["model"] == "resnet20_cifar" and table["parameters"] == f"{parameters:,}"
        rows = {line.rsplit(maxsplit=4)[0]: line.rsplit(maxsplit=4)[1:] for line in by_class.splitlines()}
        assert float(rows["mean"][1]) == float(table["test_accuracy"])  # the classes are of one size
        assert len(rows) == 12 and rows["Ankle boot"][3] == "10"
        written = Path(page.split()[1])
        assert written.parent == Path(path if path.is_file() else run / "x").parent and "<svg" in written.read_text()
        assert len(written.with_suffix(".csv").read_text().splitlines()) == 101
    assert "curves" in command("evaluate", run)[1] and "curves" not in command("evaluate", moved)[1]


def test_predict_names_class_and_probability_from_plain_image_files(command, train, tmp_path):
    network, run = train("epochs=3", "dataset_params.train_dataset_params.max_samples=2000")
    data = in_memory("fashion_mnist_mini", train=False)
    files = []
    for i in range(5):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(data.images[i, 0].numpy()).save(files[-1])
    large = tmp_path / "large.jpg"
    Image.fromarray(data.images[0, 0].numpy()).convert("RGB").resize((301, 217)).save(large)
    code, out, _ = command("predict", run, *files, large)
    assert code == 0
    state = torch.load(run / "ckpt_best.pth")
    network.load_state_dict(state["net"])
    probabilities = network.eval()(data.__getitems__(list(range(5)))[0]).softmax(1)
    for i, line in enumerate(out.splitlines()[:5]):
        file, label, probability = line.rsplit("  ", 2)
        assert file == str(files[i]) and label == CLASS_NAMES[probabilities[i].argmax()]
        assert float(probability.rstrip("%")) == pytest.approx(100 * probabilities[i].max().item(), abs=0.1)
    assert out.splitlines()[5].startswith(str(large)) and out.rstrip().endswith("%")
    for name, *options in (("float.onnx",), ("pixels.onnx", "--uint8-input")):
        assert command("export", run, tmp_path / name, *options)[0] == 0
        for runtime in installed():
            code, by_file, _ = command("predict", tmp_path / name, *files, large, "--runtime", runtime)
            for ours, theirs in zip(by_file.splitlines(), out.splitlines(), strict=True):
                assert ours.rsplit("  ", 1)[0] == theirs.rsplit("  ", 1)[0], (name, runtime)
                shares = [float(line.rsplit("  ", 1)[1].rstrip("%")) for line in (ours, theirs)]
                assert shares[0] == pytest.approx(shares[1], abs=1.0)
    code, _, said = command("predict", run, large, "--runtime", "openvino")
    assert code == 1 and "--runtime is for ONNX files" in said


def test_resume_goes_on_to_more_epochs_in_the_same_folder(train, command, compose):
    _, run = train("epochs=1")
    code, _, _ = command("resume", run.parent, "epochs=3")
    assert code == 0 and torch.load(run / "ckpt_latest.pth")["epoch"] == 3
    assert command("resume", run / "ckpt_latest.pth", "training_hyperparams.max_epochs=4")[0] == 0
    rows = [row.split(",") for row in (run / "curves.csv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["epoch", "1", "2", "3", "4"]
    seconds = [float(row[rows[0].index("seconds")]) for row in rows[1:]]
    assert seconds == sorted(seconds) and seconds[3] > seconds[0]


def test_an_override_of_a_resumed_run_reaches_what_is_derived_from_it(train, command):
    _, run = train("+strength=1.0", "+training_hyperparams.clip_grad_norm=${strength}")
    assert torch.load(run / "ckpt_latest.pth")["recipe"]["training_hyperparams"]["clip_grad_norm"] == 1.0
    assert command("resume", run, "epochs=2", "strength=2.0")[0] == 0
    assert torch.load(run / "ckpt_latest.pth")["recipe"]["training_hyperparams"]["clip_grad_norm"] == 2.0


def test_a_resumed_run_refuses_a_rate_that_pytorchs_schedule_would_not_take(train, command):
    _, run = train("training_hyperparams.lr_mode={StepLR: {step_size: 9, phase: TRAIN_EPOCH_END}}")
    code, _, error = command("resume", run, "epochs=2", "lr=0.001")
    assert code == 1 and "'lr=0.001': leave it out" in error and "\n" not in error.strip()


@pytest.mark.parametrize(
    "args, words",
    [
        (["train", "fashion_mnist_resnet"], ["unknown recipe 'fashion_mnist_resnet'", "fashion_mnist_resnet20"]),
        (["evaluate", "missing"], ["no checkpoint at missing", "give a checkpoint, a run's folder"]),
        (["evaluate", "{root}/mine.onnx"], ["mine.onnx is for other programs", "the run or checkpoint"]),
        (["summary", "resnet50d"], ["unknown model 'resnet50d': did you mean resnet50_v1d?"]),
        (["summary", "resnet56"], ["did you mean resnet56_cifar?"]),
        (["resume", "{run}"], ["has trained for 1 of 1 epochs", "epochs=2"]),
        (["resume", "{run}", "architecture=resnet56_cifar"], ["goes on with its own network"]),
        (["summary", "resnet21_cifar"], ["unknown model 'resnet21_cifar'", "nearest: 20 and 26"]),
        (["summary", "resnet20_cifar", "depth"], ["'depth' is no arch_param: write key=value"]),
        (["summary", "resnet20_cifar", "deph=8"], ["arch_params has no 'deph'", "did you mean depth"]),
        (["summary", "resnetblur18_v1b", "--size", "8"], ["size=8: too small an image"]),
        (["draw", "resnet20_cifar", "--output", "net.jpg"], ["give a file that ends in .png, .svg or .pdf"]),
        (["draw", "resnet20_cifar", "--output", "{root}/none/net.png"], ["there is no folder"]),
        (["draw", "resnet20_cifar", "--plugin", "none"], ["there is no module 'none'"]),
        (["models", "--filter", "vgg"], ["no model's name contains 'vgg'"]),
        (["evaluate", "{run}/ckpt_none.pth"], ["no checkpoint at", "ckpt_none.pth", "there are ckpt_best.pth"]),
        (["evaluate", "{root}"], ["no run with ckpt_best.pth", "holds fashion_mnist_mini_resnet20_cifar"]),
        (["resume", "{run}", "epochs=2", "training_hyperparams.optimizer=Muon"], ["goes on with its own optimiser"]),
        (["resume", "{run}", "epochs=2", "training_hyperparams=he2015_cifar"], ["a run keeps its groups"]),
        (["resume", "{run}", "epohcs=3"], ["'epohcs=3' overrides nothing", "did you mean epochs"]),
        (["resume", "{root}"], ["no run with ckpt_latest.pth"]),
        (["predict", "{run}", "none.png"], ["no image at none.png"]),
        (["predict", "{run}", "{run}/curves.csv"], ["cannot be read as an image"]),
        (["predict", "{run}", "{root}/half.jpg"], ["half.jpg cannot be read as an image"]),
        (["predict", "{root}/bare.pth", "none.png"], ["bare.pth", "does not say which network"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line(command, train, tmp_path, args, words):
    _, run = train()
    torch.save(torch.load(run / "ckpt_best.pth")["net"], tmp_path / "bare.pth")
    Image.effect_noise((200, 200), 50).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:5000])
    (tmp_path / "mine.onnx").write_bytes(b"onnx")
    before = {path: path.read_bytes() for path in run.rglob("*.pth")}
    code, _, error = command(*(arg.format(run=run, root=tmp_path) for arg in args))
    assert code == 1 and "\n" not in error.strip() and all(word in error for word in words), error
    assert all(path.read_bytes() == content for path, content in before.items())


def test_compare_and_export_on_the_command_line(train, sg_resnets_command, tmp_path, host):
    from super_gradients.training import models

    network, run = train("epochs=2", "training_hyperparams.ema=True")
    (tmp_path / "README.md").touch()
    paths = (tmp_path / "README.md", run.parent, tmp_path / "pretrained")  # as checkpoints/* gives them
    done = sg_resnets_command("compare", *paths, "--output", tmp_path / "c.png", cwd=tmp_path)
    assert done.returncode == 0 and "resnet20_cifar" in done.stdout
    assert imread(tmp_path / "c.png")[..., :3].std() > 0.05  # something is drawn
    (left_out,) = (line for line in done.stdout.splitlines() if line.startswith("left out"))
    assert left_out.endswith(f": {paths[2]}")
    parameters = f" {sum(parameter.numel() for parameter in network.parameters()):,}"
    assert parameters in done.stdout
    refused = sg_resnets_command("compare", tmp_path / "nothing", cwd=tmp_path)
    assert refused.returncode == 1 and "no run with ckpt_best.pth and curves.csv" in refused.stderr

    file = tmp_path / "mine.safetensors"
    done = sg_resnets_command("export", run, file, cwd=tmp_path)
    assert done.returncode == 0 and "SHA-256" in done.stdout
    assert (
        file.stat().st_mode == (run / "ckpt_best.pth").stat().st_mode
    )  # others may read it where the run is theirs too
    best = read(run / "ckpt_best.pth")
    with safe_open(file, framework="pt") as opened:
        assert all(torch.equal(opened.get_tensor(key), best["ema_net"][key]) for key in best["ema_net"])
    arch = {"in_channels": 1, "depth": 8, "widths": [4, 8, 16]}
    network = models.get("resnet20_cifar", arch_params=arch, num_classes=10, checkpoint_path=str(file))
    assert torch.equal(network.fc.weight, best["ema_net"]["fc.weight"])
    rows = [sg_resnets_command("evaluate", path, cwd=tmp_path).stdout for path in (run, file)]
    accuracy = [next(line for line in row.splitlines() if "test Accuracy" in line) for row in rows]
    assert accuracy[0] == accuracy[1] and all(parameters in row for row in rows)

    for output, words in (("x.pth", "must end in .safetensors"), ("no/x.safetensors", "cannot be written")):
        refused = sg_resnets_command("export", run, output, cwd=tmp_path)
        assert refused.returncode == 1 and words in refused.stderr and refused.stderr.count("\n") == 1
    file.write_bytes(file.read_bytes()[:999])
    refused = sg_resnets_command("evaluate", file, cwd=tmp_path)
    assert refused.returncode == 1 and "damaged" in refused.stderr
