"""Distillation recipes train a student that stands alone."""

import copy
import json

import pytest
import torch

from sg_resnets.distillation import losses
from sg_resnets.runs.checkpoints import read
from support import GREY_8, KD_RECIPE

METHODS = ("kd", "kd_standardized", "dkd", "dist", "mlld", "fitnet", "at", "rkd")


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_each_method_trains_on_a_gpu(distil, method):
    run = distil(f"distillation={method}", "training_hyperparams.ema=True")
    assert (run / "ckpt_best.pth").is_file() and json.loads((run / "teacher.json").read_text())["Accuracy"] > 0.2


def test_the_method_warms_up_over_the_epochs_of_a_run(distil, monkeypatch):
    epochs, forward = [], losses.DistillationLoss.forward

    def recorded(self, output, target):
        if self.warmup_epochs:
            epochs.append(self.epoch)
        return forward(self, output, target)

    monkeypatch.setattr(losses.DistillationLoss, "forward", recorded)
    distil("epochs=2", "distillation.warmup_epochs=4")
    assert set(epochs) == {1, 2, 4}  # 4, no ramp, is the look before training


@pytest.mark.parametrize("method", METHODS)
def test_each_method_trains_a_student_that_stands_alone(distil, method, host):
    from super_gradients.training import models

    run = distil(f"distillation={method}")
    best = read(run / "ckpt_best.pth")
    student = models.get("resnet20_cifar", arch_params={**GREY_8, "widths": [4, 8, 16]})
    student.load_state_dict(best["net"], strict=True)
    assert best["recipe"]["architecture"] == "resnet20_cifar"
    assert best["recipe"]["training_hyperparams"]["loss"] == {"CrossEntropyLoss": {"smooth_eps": 0.0}}
    assert all(value.isfinite().all() for value in best["net"].values())
    latest = read(run / "ckpt_latest.pth")
    wants = {"student", "regressors"} if method == "fitnet" else {"student"}
    assert {key.partition(".")[0] for key in latest["net"]} == wants


def test_a_run_is_evaluated_as_its_student(distil, run_warm, tmp_path):
    from sg_resnets.runs.evaluate import evaluate_checkpoint

    same = "training_hyperparams.mixed_precision=False"  # as `evaluate` does
    run = distil("training_hyperparams.ema=True", "training_hyperparams.average_best_models=True", same)
    rows = {name: dict(evaluate_checkpoint(run / name, [])) for name in ("ckpt_best.pth", "ckpt_latest.pth")}
    for row in rows.values():
        assert row["model"] == "resnet20_cifar" and row["parameters"] == "4,934"
    assert float(rows["ckpt_best.pth"]["test Accuracy"]) == pytest.approx(read(run / "ckpt_best.pth")["acc"])
    done = run_warm(
        "-m", "super_gradients.evaluate_checkpoint", "--experiment_name=fashion_mnist_mini_kd",
        f"--ckpt_root_dir={tmp_path}", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0 and rows["ckpt_latest.pth"]["test Accuracy"][:6] in done.stdout + done.stderr


def test_the_teachers_accuracy_is_measured_once(distil, teacher, capfd):
    from sg_resnets.runs.evaluate import evaluate_checkpoint

    same = "training_hyperparams.mixed_precision=False"  # as `evaluate` does
    run = distil("epochs=2", "dataset_params.val_dataset_params.max_samples=256", same)
    printed = capfd.readouterr().err
    report = json.loads((run / "teacher.json").read_text())
    rows = dict(evaluate_checkpoint(teacher, []))
    assert f"{report['Accuracy']:.4f}" == rows["test Accuracy"] and f"{report['parameters']:,}" == rows["parameters"]
    assert printed.count(f"The teacher, {report['parameters']:,} parameters: Accuracy {report['Accuracy']:.4f}") == 1


def test_a_resumed_run_ends_as_one_that_was_not(distil, monkeypatch):
    """Student, regressor and optimiser, bit for bit."""
    from sg_resnets.host.distillation import TeacherFigures

    settings = ("distillation=fitnet", "epochs=2", "training_hyperparams.ema=True")
    whole = read(distil(*settings, "experiment_name=whole") / "ckpt_latest.pth")
    with monkeypatch.context() as patch:
        stop = lambda self, context: context.update_context(stop_training=True)  # noqa: E731
        patch.setattr(TeacherFigures, "on_validation_loader_end", stop)
        stopped = distil(*settings, "experiment_name=parts")
    assert read(stopped / "ckpt_latest.pth")["epoch"] == 1
    resumed = distil(*settings, "experiment_name=parts", "resume=True")
    assert resumed == stopped
    parts = read(resumed / "ckpt_latest.pth")
    assert parts["epoch"] == whole["epoch"] == 2
    for net in ("net", "ema_net"):
        assert all(torch.equal(value, parts[net][key]) for key, value in whole[net].items())


def test_the_hosts_entry_points_take_the_recipe(run_warm, teacher, tmp_path):
    """`train_from_kd_recipe`, and `train_from_recipe` too, which the host's resume goes through."""
    overrides = [
        f"ckpt_root_dir={tmp_path}", "teacher_architecture=resnet20_cifar", "+teacher_arch_params.depth=8",
        "+student_arch_params.depth=8", "teacher_checkpoint_params.pretrained_weights=null",
        f"teacher_checkpoint_params.checkpoint_path={teacher.parent.parent}", "epochs=1", "batch_size=64",
        "+dataset_params.train_dataset_params.max_samples=128", "+dataset_params.val_dataset_params.max_samples=50",
    ]  # fmt: skip
    for entry in ("train_from_kd_recipe", "train_from_recipe"):
        done = run_warm("-m", f"super_gradients.{entry}", f"--config-name={KD_RECIPE}", *overrides, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
    runs = sorted(tmp_path.glob("fashion_mnist_mini_kd/RUN_*"))
    assert len(runs) == 2 and all((run / "ckpt_best.pth").is_file() for run in runs)


def test_compiled_and_in_bfloat16_it_taps_the_same(distiller, images):
    network = distiller(taps={"student": "layer2", "teacher": "layer2", "regressor": True})
    network.fit_to(images)
    expected = network(images)
    compiled = copy.deepcopy(network)
    compiled.compile(backend="aot_eager")
    for _ in range(2):
        output = compiled(images)
        torch.testing.assert_close(output.student_features[0], expected.student_features[0])
        torch.testing.assert_close(output.teacher_features[0], expected.teacher_features[0])
    assert set(compiled.state_dict()) == set(network.state_dict())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(images)
    assert half.student_features[0].dtype == torch.bfloat16
    torch.testing.assert_close(half.student_features[0].float(), expected.student_features[0], rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["teacher_checkpoint_params.checkpoint_path=null"], "the teacher has no weights"),
        (["teacher_arch_params.num_classes=7"], "both must have the same classes"),
        (
            [
                "+teacher_checkpoint_params.checkpoint_num_classes=10",
                "teacher_arch_params.num_classes=7",
                "student_arch_params.num_classes=7",
            ],
            "its classifier is new",
        ),
        (
            [
                "+teacher_checkpoint_params.checkpoint_num_classes=10",
                "teacher_arch_params.num_classes=7",
                "student_arch_params.num_classes=7",
                "arch_params.teacher_input={size: 28}",
            ],
            "its classifier is new",
        ),
        (
            ["student_arch_params.num_classes=7", "+smoke=True", "teacher_checkpoint_params.checkpoint_path=null"],
            "the network has 7 classes.*set student_arch_params.num_classes=10",
        ),
        (["student_arch_params.in_channels=3"], "set student_arch_params.in_channels=1"),
        (
            [
                "teacher_architecture=resnet18",
                "~teacher_arch_params.depth",
                "+smoke=True",
                "teacher_checkpoint_params.checkpoint_path=null",
            ],
            "do not both take batches of",
        ),
        (["distillation=none"], "one of KD, DKD"),
        (["training_hyperparams.finetune=True"], "finetune=True freezes the student's body"),
        (
            ["distillation=at", "distillation.taps={student: fc, teacher: fc}"],
            r"AT compares feature maps \(N, C, H, W\)",
        ),
        (["distillation=fitnet", "distillation.taps={student: fc, teacher: fc, regressor: True}"], "a regressor takes"),
        (["distillation=fitnet", "distillation.taps.student=layer7"], "the student has no module 'layer7'"),
        (["distillation=at", "distillation.taps={student: [], teacher: []}"], "AT compares features: say which"),
        (["distillation=fitnet", "distillation.taps.regressor=False"], "set distillation.taps.regressor=True"),
        (["distillation=at", "distillation.taps.student=[layer1,layer2,layer2]"], "same height and width"),
        (["distillation.method.KD.temperature=0"], "temperature=0: must be a number > 0"),
        (["distillation.method=KDD"], "unknown distillation method 'KDD'"),
        (["teacher_architecture=resnet56_cifr"], "did you mean"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(distil, tmp_path, overrides, words):
    with pytest.raises(ValueError, match=words):
        distil(*overrides)
    assert not list(tmp_path.rglob("RUN_*"))
