"""A folder of pictures, from the first look to a network that is shipped."""

import csv
import json
import logging
import multiprocessing
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from sg_resnets.runs.checkpoints import averaged_weights
from sg_resnets.utils.errors import SgResnetsError

SMALL = (
    "architecture=resnet20_cifar", "+arch_params.depth=8", "+arch_params.widths=[4,4,4]", "batch_size=4",
    "num_workers=0", "epochs=1",
)  # fmt: skip


def fill(root, *folders, count=8, seed=0):
    """Pictures of 40 x 50 pixels; the class number k of the folders is about 60 k bright."""
    generator = np.random.default_rng(seed)
    for k, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            noise = generator.integers(0, 60, (40, 50, 3)) + 60 * (k % 3)
            Image.fromarray(noise.astype(np.uint8)).save(root / folder / f"{i}.png")
    return root


@pytest.fixture
def train_folder(train):
    def run(root, *overrides, recipe="image_folder_resnet18", size=True):
        where = f"dataset_params.train_dataset_params.root={root}"
        sized = ["dataset_params.train_dataset_params.size=24"] if size else []
        return train(where, *SMALL, *sized, *overrides, recipe=recipe, tiny=False)

    return run


@pytest.fixture
def said(caplog):
    """What has been logged, as one text."""
    caplog.set_level(logging.INFO)
    names = ("sg_resnets.host.folders", "sg_resnets.runs.evaluate", "sg_resnets.data.folder", "super_gradients")
    for name in names:
        logging.getLogger(name).addHandler(caplog.handler)
    yield lambda: caplog.text
    for name in names:
        logging.getLogger(name).removeHandler(caplog.handler)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["image_csv", "image_folder"])
def test_a_csv_file_is_all_that_is_needed(name, train, command, said, tmp_path):
    fill(tmp_path / "pictures", "a", "b")
    rows = [f"pictures/{folder}/{i}.png,{label}" for folder, label in (("a", "cat"), ("b", "dog")) for i in range(8)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,class", *rows]))
    _, run = train(
        f"dataset_params.train_dataset_params.labels={tmp_path / 'labels.csv'}",
        "dataset_params.train_dataset_params.size=24",
        *(f"dataset_params.{part}_dataloader_params.dataset={name}" for part in ("train", "val")),
        *SMALL,
        recipe="image_folder_resnet18",
        tiny=False,
    )
    assert f"{tmp_path}: 2 classes, pictures: 12 train, 4 val" in said()
    split = {row["file"]: row for row in rows_of(run / "split.csv")}
    assert split.keys() == {row.partition(",")[0] for row in rows}
    code, printed, error = command("evaluate", run)
    assert code == 0 and "\ncat " in printed and "\ndog " in printed, error
    seen = {os.path.relpath(row["file"], tmp_path) for row in rows_of(run / "report_val.csv")}
    assert seen == {file for file, row in split.items() if row["part"] == "val"}


def test_one_folder_is_all_that_is_needed(train_folder, command, said, tmp_path):
    root = fill(tmp_path / "pictures", "ant", "bee", "cow", count=10)
    (root / "ant" / "notes.txt").write_text("x")
    network, run = train_folder(root)
    assert network.fc.out_features == 3
    for words in ("3 classes, pictures: 24 train, 6 val", "largest class: ant (8 to train on)", "1 .txt"):
        assert words in said()
    split = {row["file"]: row for row in rows_of(run / "split.csv")}
    assert len(split) == 30 and split["ant/0.png"]["class"] == "ant"
    validated = {name for name, row in split.items() if row["part"] == "val"}
    assert len(validated) == 6
    seen = {os.path.relpath(row["file"], root) for row in rows_of(run / "report_val.csv")}
    assert seen == validated and json.loads((run / "report_val.json").read_text())["images"] == 6
    page = (run / "report_val.html").read_text()
    assert "ant" in page and "bee" in page and "http" not in page.replace("http://www.w3.org", "")

    fill(root, "ant", count=30, seed=1)  # those that were added since are of no part of this run
    code, out, _ = command("evaluate", run)
    assert code == 0 and f"{root}, val" in out
    assert {os.path.relpath(row["file"], root) for row in rows_of(run / "report_val.csv")} == validated
    _, tuned = train_folder(root, f"checkpoint_params.checkpoint_path={run}", "experiment_name=tuned")
    assert {row["file"] for row in rows_of(tuned / "split.csv") if row["part"] == "val"} == validated
    (root / "bee" / "0.png").unlink()  # one that was taken away since
    assert command("evaluate", run)[0] == 0
    Image.new("RGB", (50, 40)).save(root / "bee" / "0.png")
    moved = tmp_path / "moved"
    root.rename(moved)
    own = (run / "report_val.csv").read_bytes()
    code, out, _ = command("evaluate", run, "--root", moved)
    assert code == 0 and len(rows_of(run / "report_val_other.csv")) == 6
    assert (run / "report_val.csv").read_bytes() == own


def test_another_part_or_folder_is_evaluated_and_other_classes_are_refused(train_folder, command, tmp_path):
    names = ("cat", "dog")
    root = fill(tmp_path / "pictures", *(f"{part}/{name}" for part in ("train", "val", "test") for name in names))
    _, run = train_folder(root)
    assert not (run / "split.csv").exists()
    code, out, _ = command("evaluate", run, "--split", "test")
    assert code == 0 and "test Accuracy" in out and (run / "report_test.html").is_file()
    assert all(any(line.split()[:1] == [name] for line in out.splitlines()) for name in names)
    others = fill(tmp_path / "others", "val/cat", "val/dog", count=3)
    code, out, _ = command("evaluate", run, f"dataset_params.val_dataset_params.root={others}")
    assert code == 0 and f"{others}, val" in out and "     6" in out
    first, second = (command("evaluate", run, "--split", "train")[1] for _ in range(2))
    assert first == second and "    16" in first  # nothing is drawn
    flat = fill(tmp_path / "flat", "cat", "dog", count=5)
    assert "    10" in command("evaluate", run, "--root", flat)[1]  # all of it
    code, _, words = command("evaluate", run, "--split", "tset")
    assert code == 1 and "split='tset': must be one of train, val, test, all" in words
    code, _, words = command("evaluate", run, "epoch=3")
    assert code == 1 and "'epoch=3' overrides nothing" in words

    three = fill(tmp_path / "three", "val/cat", "val/dog", "val/eel")
    code, _, words = command("evaluate", run, "--root", three)
    assert code == 1 and "trained on 2 classes, and the data has 3, different are eel" in words
    wrong = fill(tmp_path / "wrong", "val/cat", "val/eel")
    code, _, words = command("evaluate", run, "--root", wrong)
    assert code == 1 and "its class 1 is dog, that of the data eel" in words and "\n" not in words.strip()
    fill(wrong, "train/cat", "train/eel")
    start = f"checkpoint_params.checkpoint_path={run}"
    with pytest.raises(SgResnetsError, match="trained on other classes than the data has, others: its class 1 is dog"):
        train_folder(wrong, start, "experiment_name=other")
    fresh, _ = train_folder(wrong, start, "checkpoint_params.checkpoint_num_classes=2", "experiment_name=fresh", "lr=0")
    trained = averaged_weights(torch.load(run / "ckpt_best.pth"))  # which were validated
    assert torch.equal(fresh.conv1.weight.cpu(), trained["conv1.weight"])
    assert not torch.equal(fresh.fc.weight.cpu(), trained["fc.weight"])


def test_damaged_pictures_are_named_before_training_or_left_out(train_folder, command, said, tmp_path, monkeypatch):
    root = fill(tmp_path / "pictures", *(f"{part}/{name}" for part in ("train", "val") for name in ("cat", "dog")))
    bad = [root / "train/cat/1.png", root / "train/dog/7.png", root / "val/dog/2.png"]
    for path in bad:
        path.write_bytes(path.read_bytes()[:400])
    shutil.copy(root / "train/cat/2.png", root / "val/cat/again.png")
    with pytest.raises(SgResnetsError) as error:
        train_folder(root)
    assert str(error.value).startswith("3 damaged pictures: repair or remove them") and not list(
        tmp_path.glob("*/RUN_*")
    )
    assert all(f"{path}: " in str(error.value) for path in bad)
    monkeypatch.chdir(tmp_path)
    _, run = train_folder("pictures", "dataset_params.train_dataset_params.on_bad_image=skip")
    assert "3 damaged pictures left out: train/cat/1.png, train/dog/7.png, val/dog/2.png" in said()
    assert "1 picture in two parts, such as train/cat/2.png and val/cat/again.png" in said()
    assert len(rows_of(run / "report_val.csv")) == 16 and len(torch.load(run / "ckpt_best.pth")["recipe"]) > 5

    code, out, _ = command("check", root)
    assert code == 1 and "33 pictures looked at, 3 damaged:" in out and all(f"{path}: " in out for path in bad)
    for path in bad:
        path.unlink()
    code, out, _ = command("check", root)
    assert code == 0 and "2 classes, pictures: 14 train, 16 val" in out and "30 pictures looked at, 0 damaged" in out
    (tmp_path / "empty").mkdir()
    assert command("check", tmp_path / "empty")[2].endswith("empty has no pictures")


def test_a_network_of_one_channel_gets_grey_pictures(train_folder, tmp_path):
    network, run = train_folder(fill(tmp_path / "pictures", "cat", "dog"), "arch_params.in_channels=1")
    steps = torch.load(run / "ckpt_best.pth")["processing_params"]["image_processor"]["ComposeProcessing"][
        "processings"
    ]
    assert network.conv1.in_channels == 1 and {"ToGrayscale": {}} in steps
    assert {"NormalizeImage": {"mean": [0.449], "std": [0.226]}} in steps


def test_pictures_are_prepared_as_those_of_the_weights(train_folder, said, tmp_path):
    root = fill(tmp_path / "pictures", "cat", "dog")
    mean = "dataset_params.train_dataset_params.mean=[0.5,0.4,0.3]"
    data = "dataset_params.train_dataset_params"
    _, run = train_folder(root, mean, f"{data}.std=[0.2,0.2,0.2]", f"{data}.fit=squash", f"{data}.size=[16,24]")
    start = f"checkpoint_params.checkpoint_path={run}"
    _, tuned = train_folder(root, start, "experiment_name=tuned", size=False)
    params = [torch.load(each / "ckpt_best.pth")["processing_params"] for each in (run, tuned)]
    assert params[0] == params[1] and "was trained with" not in said()
    _, padded = train_folder(root, start, f"{data}.fit=crop", "experiment_name=cropped", size=False)
    train_folder(
        root, f"checkpoint_params.checkpoint_path={padded}", f"{data}.fit=pad", "experiment_name=pad", size=False
    )
    train_folder(root, start, f"{data}.size=32", "experiment_name=other", size=False)
    assert f"size=32, but {run} was trained with [16, 24]: leave size out for that" in said()


def test_many_pictures_are_predicted_and_a_bad_one_stops_none(train_folder, command, tmp_path, monkeypatch):
    root = fill(tmp_path / "pictures", "ant", "bee", "cow")
    data = "dataset_params.train_dataset_params"
    _, run = train_folder(root, "epochs=3", f"{data}.size=24", f"{data}.fit=squash", size=False)
    monkeypatch.chdir(root)
    code, out, _ = command("predict", run, "ant", "*/0.png")
    assert code == 0 and len(out.splitlines()) == 8 + 3 and out.startswith("ant/0.png  ")
    (tmp_path / "bad.png").write_text("x")
    code, out, words = command("predict", run, "ant/0.png", tmp_path / "bad.png", "none.png", "bee/0.png", "--top", "2")
    assert code == 1 and [line.split()[0] for line in out.splitlines()] == ["ant/0.png", "bee/0.png"]
    assert len(out.splitlines()[0].split()) == 5
    assert "bad.png cannot be read as an image" in words and "no image at none.png" in words

    code, out, _ = command("predict", run, "cow", "--csv", tmp_path / "out.csv", "--top", "9", "--tta", "flip")
    rows = rows_of(tmp_path / "out.csv")
    assert code == 0 and len(rows) == 8 and "8 images" in out
    assert sum(float(rows[0][f"probability{n}"]) for n in ("", "_2", "_3")) == pytest.approx(1, abs=1e-3)
    square = Image.open("cow/0.png").crop((0, 0, 24, 24))  # nothing is cut off at one side alone
    square.save(tmp_path / "a.png")
    square.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "b.png")
    pair = [tmp_path / "a.png", tmp_path / "b.png"]
    either, both = (command("predict", run, *pair, *how)[1] for how in ((), ("--tta", "flip")))
    shares = [[line.split()[1:] for line in out.splitlines()] for out in (either, both)]
    assert shares[0][0] != shares[0][1] and shares[1][0] == shares[1][1]
    assert command("predict", run, "cow", "--tta", "crop")[2] == "sg-resnets: --tta crop: valid: flip"
    assert command("export", run, tmp_path / "net.onnx")[0] == 0
    code, by_file, _ = command("predict", tmp_path / "net.onnx", "cow")
    assert code == 0 and by_file == command("predict", run, "cow")[1]


@pytest.mark.parametrize("recipe", ["image_folder_resnet18", "fashion_mnist_mini_resnet20"])
def test_rare_classes_are_drawn_as_often_as_others(train, train_folder, recipe, tmp_path):
    sampler = "+dataset_params.train_dataloader_params.sampler={ClassBalancedSampler:{oversample_aggressiveness:1.0}}"
    if recipe == "image_folder_resnet18":
        root = fill(tmp_path / "pictures", "train/ant", "train/bee", "train/cow", count=20)
        for path in sorted((root / "train" / "cow").iterdir())[2:]:
            path.unlink()
        fill(root, "val/ant", "val/bee", "val/cow", count=2)
        train_folder(root, sampler)
    else:
        train(sampler)
    from super_gradients.training.datasets.samplers.class_balanced_sampler import ClassBalancer

    from sg_resnets.host.datasets import HostImageFolder

    if recipe == "image_folder_resnet18":
        data = HostImageFolder(str(root), size=8)
        factors = np.array(ClassBalancer.get_sample_repeat_factors(data, None, 1.0))
        assert np.bincount(data.targets, weights=factors) == pytest.approx([20, 20, 20])
        slow = [1.0, 1.0, 10.0]
        assert factors.tolist() == pytest.approx([slow[label] for label in data.targets])


def test_a_sampler_may_be_named_without_parameters(train_folder, tmp_path):
    train_folder(
        fill(tmp_path / "pictures", "ant", "bee"),
        "+dataset_params.train_dataloader_params.sampler={ClassBalancedSampler:null}",
    )


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ("threshold:1.0", "ClassBalancedSampler has no keyword 'threshold'.*oversample_threshold"),
        ("oversample_threshold:50", "oversample_threshold=50: must be a number from 0 to 1"),
        ("num_samples:0", "num_samples=0: must be an integer >= 1"),
        ("oversample_aggressiveness:-1.0", "oversample_aggressiveness=-1.0: must be a number >= 0"),
    ],
)
def test_wrong_parameters_of_a_sampler_are_named(train_folder, params, words, tmp_path):
    root = fill(tmp_path / "pictures", "ant", "bee")
    with pytest.raises(SgResnetsError, match=words):
        train_folder(root, f"+dataset_params.train_dataloader_params.sampler={{ClassBalancedSampler:{{{params}}}}}")


def test_pictures_that_are_gone_are_told_and_a_class_that_is_gone_is_refused(train_folder, command, said, tmp_path):
    root = fill(tmp_path / "pictures", "ant", "bee", "cow", count=10)
    _, run = train_folder(root)
    own = (run / "report_val.csv").read_bytes()
    validated = [row["file"] for row in rows_of(run / "split.csv") if row["part"] == "val"]
    (root / validated[0]).rename(tmp_path / "kept.png")
    code, out, _ = command("evaluate", run)
    assert code == 0 and "1 picture that the run had" in out and (run / "report_val.csv").read_bytes() == own
    assert "1 of the 30 pictures" in said() and len(rows_of(run / "report_val_other.csv")) == 5
    (tmp_path / "kept.png").rename(root / validated[0])
    others = fill(tmp_path / "others", "ant", "bee", "cow", count=10, seed=1)  # of the same names
    assert command("evaluate", run, "--root", others)[0] == 0
    assert (
        "evaluated on those it was validated on; if they are other pictures of the same names, add --split all"
        in said()
    )
    resume = command("resume", run, "epochs=2", "dataset_params.train_dataset_params.mean=[0.1,0.1,0.1]")
    assert resume[0] == 1 and "pictures that are normalised as before" in resume[2]
    (root / "cow").rename(root / "kuh")
    for words in (("evaluate", run), ("resume", run, "epochs=2")):
        code, _, line = command(*words)
        assert code == 1 and "all pictures of cow that the run has for" in line and "\n" not in line.strip()
    assert (run / "report_val.csv").read_bytes() == own


def test_a_run_goes_on_with_pictures_as_it_has_seen_them(train_folder, command, said, tmp_path):
    root = fill(tmp_path / "pictures", "ant", "bee", count=10)
    of = "dataset_params.train_dataset_params"
    _, first = train_folder(root, f"{of}.mean=[0.2,0.3,0.4]", f"{of}.fit=squash")
    start = f"checkpoint_params.checkpoint_path={first}"
    _, tuned = train_folder(root, start, "experiment_name=tuned", size=False)  # its recipe leaves them open

    def seen_with(run):
        return torch.load(run / "ckpt_latest.pth")["processing_params"]

    before = seen_with(tuned)
    shutil.rmtree(first)  # whose settings it had
    assert command("resume", tuned, "epochs=2")[0] == 0
    assert seen_with(tuned) == before
    assert "was trained with" not in said()
    assert command("resume", tuned, "epochs=3", f"{of}.size=32")[0] == 0
    assert "size=32, but " in said() and "was trained with 24: leave size out for that" in said()


def test_torchvisions_folders_are_held_against_the_network_too(picture_folder, host):
    from super_gradients.training import models
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    from sg_resnets.host.trainer import check_data

    look = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    loader = DataLoader(datasets.ImageFolder(str(picture_folder / "train"), look), 2)
    with pytest.raises(SgResnetsError, match="the network has 3 classes but the data has 2"):
        check_data(models.get("resnet20_cifar", num_classes=3), loader)


def test_a_report_that_cannot_be_made_fails_no_training(train_folder, command, said, tmp_path, monkeypatch):
    from sg_resnets.runs import report

    def full(*_):
        raise SgResnetsError("report_val.html cannot be written (full): is the disk full?")

    root = fill(tmp_path / "pictures", "cat", "dog")
    monkeypatch.setattr(report.Report, "write", full)
    _, run = train_folder(root)
    assert "no report: report_val.html cannot be written" in said() and (run / ".hydra" / "finished").is_file()
    code, out, _ = command("evaluate", run)
    assert code == 0 and "Accuracy" in out and "report:" not in out


def test_names_of_another_encoding_are_kept(train_folder, command, tmp_path):
    root = fill(tmp_path / "pictures", "cat", "dog")
    old = os.fsencode(root / "cat") + b"/K\xe4fer.png"  # from an old archive
    os.rename(os.fsencode(root / "cat" / "0.png"), old)
    _, run = train_folder(root)
    assert (run / "report_val.html").is_file() and command("evaluate", run)[0] == 0


def test_from_a_folder_to_an_int8_network_in_three_commands(train_folder, host, compose, said, tmp_path):
    root = fill(tmp_path / "pictures", "ant", "bee", "cow")
    data = "dataset_params.train_dataset_params"
    _, teacher = train_folder(root, f"{data}.fit=squash", "epochs=2", "experiment_name=teacher")
    net = ["+student_arch_params.depth=8", "+student_arch_params.widths=[2,2,2]", "batch_size=4", "num_workers=0"]
    deep = [
        "teacher_architecture=resnet20_cifar",
        "+teacher_arch_params.depth=8",
        "+teacher_arch_params.widths=[4,4,4]",
    ]
    small = ["student_architecture=resnet20_cifar", "student_checkpoint_params.pretrained_weights=null", *net, *deep]
    where = f"{data}.root={root}"
    start = f"teacher_checkpoint_params.checkpoint_path={teacher}"
    host.Trainer.train_from_config(
        compose(where, start, *small, "epochs=1", f"ckpt_root_dir={tmp_path}", recipe="kd_image_folder", tiny=False)
    )
    (run,) = tmp_path.glob("kd_image_folder*/RUN_*")
    states = [torch.load(each / "ckpt_best.pth") for each in (teacher, run)]
    assert states[0]["processing_params"] == states[1]["processing_params"]
    assert (run / "split.csv").read_text() == (teacher / "split.csv").read_text()
    assert json.loads((run / "teacher.json").read_text())["Accuracy"] == pytest.approx(
        float(states[0]["acc"]), abs=1e-6
    )
    assert "was trained with" not in said()
    cfg = compose(
        where, f"checkpoint_params.checkpoint_path={run}", "architecture=resnet20_cifar", "+arch_params.depth=8",
        "+arch_params.widths=[2,2,2]", "batch_size=4", "num_workers=0", "epochs=1", f"ckpt_root_dir={tmp_path}",
        recipe="qat_image_folder", tiny=False,
    )  # fmt: skip
    host.Trainer.quantize_from_config(cfg)
    assert next(tmp_path.glob("qat_image_folder*/RUN_*/qat.onnx")).stat().st_size > 1000
    other = [f"{data}.mean=[0.1,0.1,0.1]", "epochs=1", f"ckpt_root_dir={tmp_path}", "experiment_name=other"]
    host.Trainer.train_from_config(compose(where, start, *small, *other, recipe="kd_image_folder", tiny=False))
    assert f"mean=[0.1, 0.1, 0.1], but {teacher} was trained with" in said()


def test_a_folder_is_trained_with_averaged_weights_until_accuracy_stops_to_rise(train_folder, said, tmp_path):
    root = fill(tmp_path / "pictures", "cat", "dog")
    stop = "training_hyperparams.phase_callbacks.1.EarlyStop.min_delta"
    _, run = train_folder(root, "epochs=20", f"+{stop}=2.0", "experiment_name=stopped")  # none is ever better
    assert torch.load(run / "ckpt_latest.pth")["epoch"] == 11 and "did not improve in the last 10" in said()
    best = torch.load(run / "ckpt_best.pth")
    assert "ema_net" in torch.load(run / "ckpt_latest.pth")
    figures = json.loads((run / "report_val.json").read_text())
    assert figures["accuracy"] == pytest.approx(float(best["acc"]), abs=1e-6)


def test_the_decay_of_an_average_fits_the_training(host):
    from sg_resnets.host.trainer import settle_average

    left_open = {"max_epochs": 10, "ema_params": {"decay": None, "decay_type": "constant"}}
    settle_average(left_open, batches=40)
    assert left_open["ema_params"]["decay"] ** 100 == pytest.approx(0.05)  # of weights before the last 100 of 400 steps
    given = {"max_epochs": 10, "ema_params": {"decay": 0.9}}
    settle_average(given, batches=40)
    assert given["ema_params"]["decay"] == 0.9


def test_more_than_ten_classes_have_a_figure_of_the_first_five(train_folder, tmp_path):
    few = fill(tmp_path / "few", *"abc")
    many = fill(tmp_path / "many", *"abcdefghijkl", count=5)
    for root, is_there in ((few, False), (many, True)):
        _, run = train_folder(root, f"experiment_name=of_{root.name}")
        metrics = torch.load(run / "ckpt_best.pth")["metrics"]["valid"]
        assert "MacroF1" in metrics and ("Top5" in metrics) == is_there


def test_workers_that_are_kept_from_epoch_to_epoch_end_with_the_training(train_folder, tmp_path):
    root = fill(tmp_path / "pictures", "cat", "dog")
    kept = [f"+dataset_params.{part}_dataloader_params.persistent_workers=True" for part in ("train", "val")]
    before = set(multiprocessing.active_children())
    train_folder(root, "epochs=2", "num_workers=1", *kept)
    assert set(multiprocessing.active_children()) <= before
