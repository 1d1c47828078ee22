"""Checkpoints that a run writes, and goes on from."""

import pickle
from pathlib import Path

import pytest
import torch

from sg_resnets.runs.checkpoints import read
from sg_resnets.utils.errors import SgResnetsError
from support import TINY


def test_resume_keeps_best(train, tmp_path):
    _, run = train("epochs=1")
    best = torch.load(run / "ckpt_best.pth")
    best["acc"] = 0.999  # no later epoch will beat this
    torch.save(best, run / "ckpt_best.pth")
    train("epochs=2", "training_hyperparams.resume=True")
    assert torch.load(run / "ckpt_latest.pth")["epoch"] == 2
    assert torch.load(run / "ckpt_best.pth")["acc"] == 0.999
    best["acc"] = -1.0  # any later epoch will
    torch.save(best, run / "ckpt_best.pth")
    train("epochs=3", "training_hyperparams.resume=True")
    assert torch.load(run / "ckpt_best.pth")["epoch"] == 3
    best["acc"] = 0.999
    torch.save(best, run / "ckpt_best.pth")
    _, new = train("epochs=4", f"training_hyperparams.resume_path={run / 'ckpt_latest.pth'}")
    assert new != run and torch.load(new / "ckpt_best.pth")["acc"] == 0.999


def test_seed_each_epoch(train, tmp_path):
    """A run that is interrupted and resumed ends with the weights of one that is not."""
    settings = ["training_hyperparams=he2015_cifar", "+arch_params.drop_path=0.2", "lr=0.01"]
    _, whole = train("epochs=2", f"ckpt_root_dir={tmp_path / 'whole'}", *settings)
    train("epochs=1", *settings)
    _, resumed = train("epochs=2", "resume=True", *settings)
    ends = [torch.load(run / "ckpt_latest.pth")["net"] for run in (whole, resumed)]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_average_best_models(train):
    _, run = train("epochs=2", "training_hyperparams.average_best_models=True")
    averaged = torch.load(run / "average_model.pth", weights_only=True)["net"]
    latest = torch.load(run / "ckpt_latest.pth", weights_only=True)["net"]
    assert not torch.equal(averaged["conv1.weight"], latest["conv1.weight"])
    _, resumed = train("epochs=3", "training_hyperparams.average_best_models=True", "resume=True")
    assert resumed == run


class _RunsCode:
    """Writes a file when it is unpickled."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return (open, (self.file, "w"))


def test_safe_checkpoints(train, host, tmp_path):
    from super_gradients.training import models

    _, run = train()
    good = run / "ckpt_best.pth"
    cut, evil, evil_pickle = tmp_path / "cut.pth", tmp_path / "evil.pth", tmp_path / "evil_old.pth"
    cut.write_bytes(good.read_bytes()[:2000])
    was_run = tmp_path / "was_run"
    torch.save({"net": _RunsCode(was_run)}, evil)
    evil_pickle.write_bytes(pickle.dumps({"net": _RunsCode(was_run)}))

    def load(name, path, **arch):
        return models.get(name, num_classes=10, arch_params={"in_channels": 1, **arch}, checkpoint_path=str(path))

    for path, words in {
        cut: r"cut\.pth is damaged or cut short \(2000 bytes\)",
        evil: "evil.pth was refused: it holds objects that run code",
        evil_pickle: "evil_old.pth was refused: it holds objects that run code",
        run / "ckpt_bset.pth": "no checkpoint at .*: there are ckpt_best.pth, ckpt_latest.pth",
    }.items():
        with pytest.raises(SgResnetsError, match=words) as error:
            load("resnet20_cifar", path, depth=8, widths=[4, 8, 16])
        assert "\n" not in str(error.value)
    assert not was_run.exists()
    with pytest.raises(
        SgResnetsError,
        match="was trained as resnet20_cifar with shortcut=A, and this is plain20_cifar with shortcut=none",
    ):
        load("plain20_cifar", good, depth=8, widths=[4, 8, 16])
    arch = {"in_channels": 1, "depth": 8, "widths": [4, 8, 16]}
    with pytest.raises(SgResnetsError, match=r"has 10 classes and resnet20_cifar 7: .*checkpoint_num_classes=10"):
        models.get("resnet20_cifar", num_classes=7, arch_params=arch, checkpoint_path=str(good))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(SgResnetsError, match="holds a list, not a state dict"):
        load("resnet20_cifar", tmp_path / "list.pth")
    with pytest.raises(
        SgResnetsError,
        match=r"does not fit resnet32_cifar: .* it was trained as architecture=resnet20_cifar with .*in_channels",
    ):
        load("resnet32_cifar", good)
    assert load("resnet20_cifar", good, depth=8, widths=[4, 8, 16])


def test_a_disk_that_is_full_is_one_line(train, monkeypatch):
    def full(state, path):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1 vs 2")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ValueError, match=r"ckpt_best\.pth cannot be written .*: is the disk full\?$"):
        train()


def test_a_checkpoint_runs_no_module_unasked(train, host, tmp_path, monkeypatch):
    """A checkpoint is data: the modules that its recipe names are not imported because it names them."""
    from sg_resnets.runs.evaluate import evaluate_checkpoint
    from sg_resnets.runs.predict import predict_images

    monkeypatch.chdir(tmp_path)
    Path("theirs.py").write_text("raise SystemExit('ran')")
    _, run = train()
    state = torch.load(run / "ckpt_best.pth")
    torch.save({**state, "recipe": {**state["recipe"], "plugins": ["theirs"]}}, "sent.pth")
    for use in (evaluate_checkpoint, lambda path, plugins: predict_images(path, [], plugins)):
        with pytest.raises(SgResnetsError, match="not imported unasked: add --plugin theirs"):
            list(use(Path("sent.pth"), []))


def test_a_recipe_of_ones_own_is_trained_by_its_file(sg_resnets_command, tmp_path):
    folder = tmp_path / "my recipes"
    folder.mkdir()
    (folder / "mine.yaml").write_text("defaults:\n  - fashion_mnist_mini_resnet20\n  - _self_\nexperiment_name: own\n")
    done = sg_resnets_command(
        "train", "my recipes/mine.yaml", "+debug=smoke", f"ckpt_root_dir={tmp_path}", cwd=tmp_path
    )
    assert done.returncode == 0 and list((tmp_path / "own").glob("RUN_*/ckpt_best.pth")), done.stderr[-500:]
    done = sg_resnets_command("train", "none.yaml", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr == "sg-resnets: there is no file none.yaml\n"


HOSTILE = "+training_hyperparams.extra={_target_: os.mkdir, path: %s}"


def test_a_command_builds_nothing_of_others_unless_it_is_told_to(sg_resnets_command, tmp_path):
    command = ["train", "fashion_mnist_mini_resnet20", *TINY, f"ckpt_root_dir={tmp_path}", HOSTILE % "here"]
    done = sg_resnets_command(*command, cwd=tmp_path)
    assert done.returncode == 1 and "extra._target_=os.mkdir: a recipe that may be another's" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "here").exists()
    sg_resnets_command(*command, "--allow-code", cwd=tmp_path)
    assert (tmp_path / "here").exists()


def test_a_checkpoints_recipe_builds_nothing_of_others(train, tmp_path):
    from sg_resnets.runs.evaluate import evaluate_checkpoint
    from sg_resnets.runs.predict import predict_images

    _, run = train()
    state = torch.load(run / "ckpt_best.pth", weights_only=True)
    state["recipe"]["arch_params"]["extra"] = {"_target_": "os.mkdir", "path": str(tmp_path / "here")}
    torch.save(state, tmp_path / "sent.pth")
    for use in (evaluate_checkpoint, lambda path, plugins: predict_images(path, [], plugins)):
        with pytest.raises(SgResnetsError, match=r"^arch_params.extra._target_=os.mkdir: "):
            list(use(tmp_path / "sent.pth", []))
    assert not (tmp_path / "here").exists()


def test_the_checkpoints_that_are_asked_for_are_kept_and_can_be_evaluated(train, command):
    _, run = train("epochs=4", "training_hyperparams.keep_every=2", "training_hyperparams.keep_last=1", "resume=False")
    assert sorted(path.name for path in run.glob("ckpt_kept*")) == ["ckpt_kept_epoch_2.pth", "ckpt_kept_epoch_4.pth"]
    train("epochs=5", "training_hyperparams.keep_every=2", "training_hyperparams.keep_last=1", "resume=True")
    kept = {path.name: read(path)["epoch"] for path in sorted(run.glob("ckpt_kept*"))}
    assert kept == {f"ckpt_kept_epoch_{epoch}.pth": epoch for epoch in (2, 4, 5)}
    code, printed, _ = command("evaluate", run / "ckpt_kept_epoch_2.pth")
    assert code == 0 and "2 epochs" in printed
