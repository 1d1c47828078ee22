"""What a recipe goes through at SuperGradients' own entry points: the right one, its checks, its errors, what it
returns."""

import pytest
import torch

from sg_resnets.utils.errors import SgResnetsError
from support import RECIPE, SCRIPT, TINY

ENTRY = ["-m", "super_gradients.train_from_recipe"]


def test_a_quantisation_recipe_quantises_at_the_entry_point_for_training(compose, host, tmp_path):
    cfg = compose("+debug=smoke", f"ckpt_root_dir={tmp_path}", recipe="qat_fashion_mnist_mini_resnet20", tiny=False)
    host.Trainer.train_from_config(cfg)
    assert {path.name for path in tmp_path.rglob("*.onnx")} == {"fp32.onnx", "ptq.onnx", "qat.onnx"}


@pytest.mark.parametrize("name", ["2024", "2024_01"])
def test_an_experiment_may_be_called_by_a_number(name, run_warm, tmp_path):
    done = run_warm(*ENTRY, RECIPE, *TINY, f"experiment_name={name}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "checkpoints" / name).glob("RUN_*/ckpt_best.pth"))


def test_a_number_as_a_name_in_yaml_is_refused(train):
    with pytest.raises(SgResnetsError, match=r"experiment_name=202401: must be text: put it in quotes"):
        train("++experiment_name=202401")


@pytest.mark.parametrize("root", ["/proc/runs", "{tmp}/file/runs"])
def test_an_output_folder_that_cannot_be_made_is_a_line(root, run_warm, tmp_path):
    (tmp_path / "file").write_text("")
    done = run_warm(*ENTRY, RECIPE, *TINY, f"ckpt_root_dir={root.format(tmp=tmp_path)}", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "ckpt_root_dir=" in done.stderr and "cannot be made" in done.stderr


def test_two_schedules_are_refused_by_the_names_to_delete(train):
    second = "+training_hyperparams.lr_mode={StepLR: {step_size: 1, gamma: 0.5, phase: TRAIN_BATCH_STEP}}"
    with pytest.raises(
        SgResnetsError, match=r"lr_mode has MultiStepLR and StepLR.*~training_hyperparams.lr_mode.Multi"
    ):
        train("training_hyperparams=he2015_cifar", second)


SMOOTH = "~training_hyperparams.criterion_params.smooth_eps"


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["training_hyperparams.loss=BinaryCrossEntropy"], f"takes no smooth_eps: .*{SMOOTH}"),
        (["+training_hyperparams.criterion_params.label_smoothing=0.1"], "CrossEntropyLoss takes no label_smoothing"),
        (["training_hyperparams.valid_metrics_list=[{Accuracy: {topk: 1}}]"], "Accuracy takes no topk"),
        (
            ["training_hyperparams.lr_mode={StepLR: {stepsize: 1, gamma: 0.5, phase: TRAIN_BATCH_STEP}}"],
            "StepLR takes no stepsize: did you mean step_size",
        ),
        (["training_hyperparams.lr_mode={StepLR: {phase: TRAIN_BATCH_STEP}}"], "StepLR needs step_size"),
        (
            ["training_hyperparams.phase_callbacks=[{EarlyStop: {phase: TRAIN_EPOCH_END, monitor: Top5, patienc: 3}}]"],
            "EarlyStop takes no patienc: did you mean patience",
        ),
        (
            ["training_hyperparams.loss={FocalLoss: {loss_fcn: {_target_: torch.nn.CrossEntropyLoss}}}", SMOOTH],
            "FocalLoss: loss_fcn=CrossEntropyLoss: leave it out",
        ),
        (["training_hyperparams.sg_logger=wandb_sg_logger"], "needs wandb: pip install wandb"),
        (["training_hyperparams.initial_lr={default: 0.01, head: 0.1}"], "begins with 'head': .*fc"),
        (["training_hyperparams.initial_lr={fc: 0.1}"], "needs one for all other layers: default"),
        (["+arch_params.depths=[1,1,1]"], "depth=8 and depths="),
    ],
)
def test_what_a_recipe_cannot_mean_is_refused_in_a_line(overrides, words, train):
    with pytest.raises(SgResnetsError, match=words) as error:
        train(*overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["training_hyperparams.loss=FocalLoss", SMOOTH],
        ["training_hyperparams.loss={FocalLoss: {loss_fcn: {_target_: torch.nn.BCEWithLogitsLoss}}}", SMOOTH],
        ["training_hyperparams.initial_lr={default: 0.01, fc: 0.1}"],
    ],
)
def test_other_losses_and_rates_by_layer_group_train(overrides, train):
    _, run = train(*overrides)
    state = torch.load(run / "ckpt_latest.pth", weights_only=True)
    assert all(value.isfinite().all() for value in state["net"].values())
    if "initial_lr" in overrides[0]:
        assert [group["name"] for group in state["optimizer_state_dict"]["param_groups"]] == ["fc", "default"]


OWN_CODE = """
from torch import nn
from sg_resnets.models import ResidualBlock, register_block
from super_gradients.common.registry.registry import register_callback
from super_gradients.training.utils.callbacks import Callback
@register_block("mine")
class Mine(ResidualBlock):
    def __init__(self, in_channels, channels, stride, config):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, groups=3)
@register_callback("Boom")
class Boom(Callback):
    def on_validation_batch_end(self, context): raise ValueError("boom")
"""


@pytest.mark.parametrize(
    "overrides",
    [["+arch_params.block=mine"], ["training_hyperparams.phase_callbacks=[Boom]"]],
    ids=["block", "callback"],
)
def test_an_error_of_the_users_own_code_keeps_file_and_line(overrides, run_warm, tmp_path):
    (tmp_path / "mine.py").write_text(OWN_CODE)
    done = run_warm(*ENTRY, RECIPE, *TINY, "plugins=[mine]", *overrides, cwd=tmp_path)
    assert done.returncode == 1 and "mine.py" in done.stderr


LOOK = """
from hydra.experimental.callback import Callback
class Look(Callback):
    def on_job_end(self, config, job_return, **kwargs): print("RETURNED", job_return._return_value, flush=True)
"""


def test_a_sweep_returns_the_watched_metric_and_says_each_failure(run_warm, tmp_path):
    (tmp_path / "look.py").write_text(LOOK)
    sweep = ["-m", RECIPE, *TINY, "lr=1e12,1e13,0.01", "+hydra.callbacks.look._target_=look.Look"]
    done = run_warm(*ENTRY, *sweep, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("failed: the loss is") == 2
    assert "job 0 failed" in done.stderr and "job 1 failed" in done.stderr
    assert float(done.stdout.rpartition("RETURNED ")[2].split()[0]) > 0


def test_the_validation_loader_has_its_own_workers(train, host):
    from omegaconf import OmegaConf

    workers = "dataset_params.val_dataloader_params.num_workers"
    _, run = train(f"{workers}=1", "dataset_params.val_dataset_params.data_on=host")
    recipe = OmegaConf.load(run / ".hydra" / "config.yaml")
    assert OmegaConf.select(recipe, workers) == 1
    assert recipe.dataset_params.train_dataloader_params.num_workers == 0


@pytest.mark.parametrize("decay, told", [(0.9999, True), (0.3, False)])
def test_an_average_that_keeps_the_beginning_is_said(decay, told, train, caplog):
    train("ema=True", f"training_hyperparams.ema_params.decay={decay}")
    assert ("set training_hyperparams.ema_params.decay=" in caplog.text) is told


def test_a_schedule_of_pytorchs_warns_of_nothing(train, capfd):
    """Of what is printed: in training, SuperGradients takes the log's other handlers away."""
    train("training_hyperparams.lr_mode={MultiStepLR: {milestones: [99], gamma: 0.1, phase: TRAIN_BATCH_STEP}}")
    said = capfd.readouterr().err
    assert "Train epoch" in said and "update_param_groups" not in said


def test_a_command_without_plugins_runs_no_module_of_the_current_folder(run_python, tmp_path):
    for name in ("timm", "matplotlib"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py of this folder was run')")
    for command in (["summary", "resnet50_v1d"], ["draw", "resnet20_cifar"]):
        done = run_python(SCRIPT, *command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_switched_off_at_start_up_sg_resnets_is_imported_by_hand(run_python, tmp_path):
    code = "import sys; print('sg_resnets' in sys.modules)"
    assert run_python("-c", code, cwd=tmp_path, SG_RESNETS_AT_STARTUP="0").stdout == "False\n"
    assert run_python("-c", code, cwd=tmp_path).stdout == "True\n"


def test_an_unknown_architecture_is_of_the_type_that_callers_catch(host):
    from super_gradients.common.exceptions.factory_exceptions import UnknownTypeException
    from super_gradients.training import models

    with pytest.raises(UnknownTypeException, match="unknown model 'resnet20_cifer'"):
        models.get("resnet20_cifer", num_classes=10)
