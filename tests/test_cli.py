"""The `sg-resnets` command as a student uses it."""

import shutil

import pytest
import torch
from PIL import Image

from sg_resnets import cli
from sg_resnets.data import in_memory
from sg_resnets.data.fashion_mnist import CLASS_NAMES
from sg_resnets.models.zoo import ZOO


@pytest.fixture
def command(monkeypatch, capsys, host):
    """command("evaluate", run) -> (exit code, printed, error): the command in this process, as its script runs it."""

    def run(*args):
        monkeypatch.setattr("sys.argv", ["sg-resnets", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        code = stopped.value.code
        said = capsys.readouterr()
        return (1 if isinstance(code, str) else code or 0), said.out, code if isinstance(code, str) else said.err

    return run


@pytest.mark.parametrize(
    "args, shown", [(["models"], list(ZOO)), (["recipes"], ["fashion_mnist_mini_resnet20"]), (["--help"], ["evaluate"])]
)
def test_lists_are_answered_without_torch_or_the_host(sg_resnets_command, tmp_path, args, shown):
    done = sg_resnets_command(*args, cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0 and all(name in done.stdout for name in shown)
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "typer" in imported and not imported & {"torch", "super_gradients", "hydra", "numpy"}


def test_models_shows_exact_figures_and_filters(command):
    _, out, _ = command("models", "--filter", "v1b")
    row = next(line.split() for line in out.splitlines() if line.startswith("resnet50_v1b"))
    assert row[1:4] == ["25,557,032", "4.089", "224x224x3"] and "cifar" not in out


def test_summary_prints_shapes_figures_and_receptive_fields(command):
    code, out, _ = command("summary", "resnet50_v1")
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert code == 0 and lines["layer4.2"][1:] == ["Bottleneck", "2048x7x7", "4,462,592", "218,365,952", "483"]
    assert lines["in"][2] == "25,557,032" and "Pretrained weights: none" in out
    assert int(lines["in"][3].replace(",", "")) == pytest.approx(ZOO["resnet50_v1"].macs, rel=1e-3)
    _, out, _ = command("summary", "custom_resnet", "depth=11", "block=bottleneck", "attention=cbam", "--size", "64")
    assert "64x64 image" in out and "256x16x16" in out


@pytest.mark.parametrize("block, depth", [("basic", 8), ("bottleneck", 11), ("res2net", 11), ("sk_bottleneck", 11)])
def test_the_receptive_field_is_what_a_pixel_of_the_last_map_really_sees(block, depth):
    """Against the gradient of one pixel, with positive weights so that nothing cancels."""
    from sg_resnets.models import ResNet
    from sg_resnets.models.summary import summarise

    splits = {"splits": 4} if block == "res2net" else {}
    config = ZOO["resnet20_cifar"].config.override(block=block, depth=depth, widths=[8, 16, 32], **splits)
    network, side = ResNet(config).eval(), 96
    for parameter in network.parameters():
        parameter.data.abs_()
    images = torch.rand(1, 3, side, side, requires_grad=True)
    body = network.layer3(network.layer2(network.layer1(network.relu(network.bn1(network.conv1(images))))))
    middle = body.shape[-1] // 2
    body[0, :, middle, middle].sum().backward()
    rows = images.grad[0].abs().sum((0, 2)).nonzero().flatten()
    seen = (rows.max() - rows.min() + 1).item()
    stated = summarise(config, side)[-3].receptive_field
    for attention in ("se", "cbam"):
        assert summarise(config.override(attention=attention), side)[-3].receptive_field == stated
    if block == "sk_bottleneck":  # its weights see the whole map; what its kernels see is left
        assert seen == side and stated == 3 + 4 + 4 + 8
    else:
        assert seen == stated


@pytest.mark.parametrize(
    "args",
    [
        ["resnet50_v1d"],
        ["plain20_cifar"],
        ["preact_resnet20_cifar"],
        ["res2net50_26w_4s"],
        ["skresnet18"],
        ["custom_resnet", "addition=exclusive_gate", "depth=8", "scaling=layerscale", "order=bn_after_addition"],
    ],
    ids=lambda args: args[0],
)
def test_draw_makes_a_picture_of_the_network_and_its_blocks(command, tmp_path, args):
    for suffix in (".png", ".svg"):
        path = tmp_path / f"net{suffix}"
        assert command("draw", *args, "--output", path)[:2] == (0, f"{path}\n")
    words = path.read_text()
    assert all(f"<!-- {word} -->" in words for word in ("image", "stem", "avgpool, fc", "x", "y")), words[:500]
    assert ("<!-- identity -->" in words) is ("plain" not in args[0])
    assert ("<!-- + -->" in words) is (args[0] not in ("plain20_cifar", "custom_resnet"))
    with Image.open(tmp_path / "net.png") as picture:
        assert min(picture.size) > 500


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
        table = dict(line.split(maxsplit=1) for line in out.replace("test Accuracy", "test_accuracy").splitlines())
        assert code == 0 and float(table["test_accuracy"]) == pytest.approx(best["acc"], abs=1e-4)
        assert table["model"] == "resnet20_cifar" and table["parameters"] == f"{parameters:,}"
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


def test_doctor_says_what_there_is_and_fails_where_nothing_can_train(command, monkeypatch):
    code, out, _ = command("doctor")
    assert code == 0 and out.rstrip().endswith("ready to train")
    for words in (
        "super-gradients     3.7.1",
        "average_best_models    average_best_models, the default, ends",
        "fashion_mnist_mini  embedded",
        "cuda",
    ):
        assert words in out
    from importlib import metadata

    from sg_resnets.host import doctor

    def missing(name):
        if name == "super-gradients":
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(doctor, "version", missing)
    code, out, _ = command("doctor")
    assert code == 1 and "pip install --no-deps super-gradients==3.7.1" in out


def test_a_missing_host_is_one_line(run_python, tmp_path):
    code = (
        "import sys; sys.modules['super_gradients'] = None; sys.argv = ['x', 'evaluate', 'y']\n"
        "from sg_resnets.cli import main; main()"
    )
    done = run_python("-c", code, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "pip install --no-deps super-gradients==3.7.1 data-gradients==0.3.2" in done.stderr


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
        (["evaluate", "{run}/ckpt_none.pth"], ["there is no", "ckpt_none.pth"]),
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
