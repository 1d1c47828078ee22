"""What SuperGradients takes from a user's own code goes on working: networks, losses, loaders, schedules, loggers."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sg_resnets.utils.errors import SgResnetsError

STEPS = 4  # of an epoch


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))


def loader(**options):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 3, 8, 8, generator=generator)
    return DataLoader(TensorDataset(images, torch.randint(0, 4, (16,), generator=generator)), 16 // STEPS, **options)


@pytest.fixture
def fit(host, tmp_path):
    """fit(network, **training_params) -> the Trainer."""
    from super_gradients.training.metrics import Accuracy

    def run(network=None, train=None, valid=None, name="own", **given):
        trainer = host.Trainer(name, ckpt_root_dir=str(tmp_path))
        params = {
            "max_epochs": 1, "initial_lr": 0.1, "loss": "CrossEntropyLoss", "optimizer": "SGD",
            "lr_mode": "CosineLRScheduler", "average_best_models": False, "silent_mode": True,
            "train_metrics_list": [Accuracy()], "valid_metrics_list": [Accuracy()], "metric_to_watch": "Accuracy",
            "sg_logger_params": {"tb_files_user_prompt": False, "launch_tensorboard": False}, **given,
        }  # fmt: skip
        trainer.train(network or Network(), params, train or loader(), valid or loader())
        return trainer

    return run


@pytest.fixture
def rates(fit):
    """rates(**training_params) -> the learning rate of each step."""
    from super_gradients.training.utils.callbacks import Callback

    class Watch(Callback):
        def on_train_batch_gradient_step_start(self, context):
            seen.append(context.optimizer.param_groups[0]["lr"])

    seen = []

    def run(**given):
        seen.clear()
        fit(phase_callbacks=[Watch()], **given)
        return list(seen)

    return run


# Schedules.


@pytest.mark.parametrize(
    "schedule",
    [
        {"lr_mode": "PolyLRScheduler"},
        {"lr_mode": "ExponentialLRScheduler", "lr_decay_factor": 0.5},
        {"lr_mode": "FunctionLRScheduler", "lr_schedule_function": lambda initial_lr, **rest: initial_lr},
        {"lr_mode": "CosineLRScheduler"},
    ],
    ids=lambda params: params["lr_mode"],
)
def test_every_schedule_waits_for_the_warm_up_of_batches(schedule, rates):
    warm_up = {"warmup_mode": "LinearBatchLRWarmup", "lr_warmup_steps": STEPS, "warmup_initial_lr": 0.01}
    found = rates(max_epochs=2, **warm_up, **schedule)
    assert found[:STEPS] == pytest.approx([0.01, 0.04, 0.07, 0.1])
    assert len(found) == 2 * STEPS and max(found[STEPS:]) <= 0.1


def test_a_warm_up_that_is_cut_to_an_epoch_says_so(rates, capfd):
    rates(warmup_mode="LinearBatchLRWarmup", lr_warmup_steps=STEPS + 1, warmup_initial_lr=0.01)
    assert "Number of warmup steps (5) is greater than number of steps in epoch (4)" in capfd.readouterr().err


def test_a_schedule_of_the_users_is_called_once_a_step_and_knows_the_loss(rates, monkeypatch):
    from super_gradients.common.registry.registry import LR_SCHEDULERS_CLS_DICT
    from super_gradients.training.utils.callbacks import LRCallbackBase, Phase

    class Halving(LRCallbackBase):
        def __init__(self, **kwargs):
            super().__init__(Phase.TRAIN_BATCH_STEP, **kwargs)

        def is_lr_scheduling_enabled(self, context):
            return float(context.loss_log_items[0]) > 0

        def perform_scheduling(self, context):
            self.lr = {name: rate / 2 for name, rate in self.lr.items()}
            self.update_lr(context.optimizer, context.epoch)

    monkeypatch.setitem(LR_SCHEDULERS_CLS_DICT, "Halving", Halving)
    assert rates(lr_mode="Halving", batch_accumulate=2, max_epochs=2) == pytest.approx([0.1, 0.05, 0.025, 0.0125])


# Losses.


class Loss(nn.CrossEntropyLoss):
    """Logs what it is told to, of a loss that is multiplied."""

    def __init__(self, factor, **logged):
        super().__init__()
        self.factor, self.component_names, self.logged = factor, list(logged), torch.tensor([*logged.values()])

    def forward(self, output, target):
        return super().forward(output, target) * self.factor, self.logged


def test_the_loss_that_is_minimised_must_be_finite_whatever_is_logged(fit):
    with pytest.raises(SgResnetsError, match="the loss is nan at step 1 of epoch 1"):
        fit(loss=Loss(float("nan"), a=1.0, b=2.0))
    fit(loss=Loss(1.0, a=float("nan"), b=2.0))
    fit(loss=Loss(1.0))


def test_one_of_several_early_stops_may_watch_the_loss(fit):
    from super_gradients.training.utils.callbacks import Phase
    from super_gradients.training.utils.early_stopping import EarlyStop

    stops = [EarlyStop(Phase.VALIDATION_EPOCH_END, name, check_finite=True) for name in ("Accuracy", "Loss/whole")]
    fit(loss=Loss(float("nan"), whole=float("nan")), phase_callbacks=stops)


# Data.


class Batches:
    """All that SuperGradients asks of a loader."""

    def __init__(self):
        self.inner = loader()
        self.dataset, self.batch_size, self.drop_last = self.inner.dataset, self.inner.batch_size, False

    def __len__(self):
        return len(self.inner)

    def __iter__(self):
        return iter(self.inner)


def test_a_loader_of_the_users_own_class_trains_and_validates(fit):
    assert fit(train=Batches(), valid=Batches()).best_metric > 0


def test_the_largest_seeds_work(rates):
    assert len(rates(seed=2**32 - 1, max_epochs=2)) == 2 * STEPS


def test_precise_batch_norm_has_the_statistics_of_the_training_data(fit):
    network = Network()
    fit(network, precise_bn=True, precise_bn_batch_size=16)
    images = torch.cat([images for images, _ in loader()])
    means = [network.body[0](part).mean((0, 2, 3)) for part in images.split(16 // STEPS)]
    torch.testing.assert_close(network.body[1].running_mean, torch.stack(means).mean(0))


def test_precise_batch_norm_of_an_average_has_them_too_and_that_of_a_frozen_layer_keeps_its_own(fit, host):
    from super_gradients.training import models

    network = models.get("resnet20_cifar", num_classes=4)
    network.layer1[0].bn1.running_mean.fill_(0.5)
    rates = {"layer1": 0.0, "default": 0.01}
    trainer = fit(
        network, initial_lr=rates, precise_bn=True, precise_bn_batch_size=16, ema=True,
        ema_params={"decay": 0.5, "decay_type": "constant"},
    )  # fmt: skip
    images = torch.cat([images for images, _ in loader()])
    for each in (network, trainer.ema_model.ema):
        assert (each.layer1[0].bn1.running_mean == 0.5).all() and not each.layer1[0].conv1.weight.requires_grad
        means = [each.conv1(part).mean((0, 2, 3)) for part in images.split(16 // STEPS)]
        torch.testing.assert_close(each.bn1.running_mean, torch.stack(means).mean(0))
        assert each.bn1.momentum == 0.1


# A training that is resumed.


def of_group(trainer, name):
    return next(group for group in trainer.optimizer.param_groups if group["name"] == name)


def test_groups_of_rates_stand_in_the_order_of_the_recipe(host):
    from super_gradients.training.utils import optimizer_utils

    layers = [f"layer{i}" for i in range(9)]  # the order of a set of them is another one, but for one time in 362,880
    network = nn.ModuleDict({name: nn.Linear(2, 2) for name in [*layers, "fc"]})
    groups = optimizer_utils.separate_lr_groups(network, {"default": 0.1, **dict.fromkeys(layers, 0.2)})
    assert [group["name"] for group in groups] == [*layers, "default"]


@pytest.mark.parametrize("zero_weight_decay", [False, True])
def test_a_resumed_run_gives_no_groups_rate_and_momentum_to_another(zero_weight_decay, fit, host, tmp_path):
    from super_gradients.training import models

    rates = {"layer1": 0.01, "layer2": 0.02, "layer3": 0.03, "default": 0.04}
    settings = {"initial_lr": rates, "lr_mode": None, "zero_weight_decay_on_bias_and_bn": zero_weight_decay}

    def network():
        torch.manual_seed(0)
        return models.get("resnet20_cifar", num_classes=4)

    expected = fit(network(), max_epochs=2, name="whole", **settings)
    fit(network(), name="resumed", **settings)
    (latest,) = (tmp_path / "resumed").rglob("ckpt_latest.pth")
    state = torch.load(latest, weights_only=True)
    state["optimizer_state_dict"]["param_groups"].reverse()  # as a process with another seed of its hashes had them
    if zero_weight_decay:  # those without decay first, as in all of them
        state["optimizer_state_dict"]["param_groups"].sort(key=lambda group: group["weight_decay"] > 0)
    torch.save(state, latest)
    resumed = fit(network(), max_epochs=2, name="resumed", resume=True, **settings)
    for name, weight in expected.net.state_dict().items():
        assert torch.equal(resumed.net.state_dict()[name], weight), name
    assert of_group(resumed, "layer2")["lr"] == 0.02
    with pytest.raises(SgResnetsError, match=r"the run has rates for .*layer1.*, and this for layer1, default: a run"):
        fit(network(), max_epochs=3, name="resumed", resume=True, initial_lr={"layer1": 0.1, "default": 0.1})
    with pytest.raises(SgResnetsError, match=r"the run has rates for .*layer1.*, and this for default: a run goes on"):
        fit(network(), max_epochs=3, name="resumed", resume=True, initial_lr=0.1)


def test_an_optimiser_of_the_users_own_goes_on(fit):
    network = Network()
    own = torch.optim.SGD([{"params": network.body.parameters()}, {"params": network.fc.parameters()}], lr=0.3)
    fit(network, name="resumed", lr_mode=None, optimizer=own, initial_lr=None)
    network = Network()
    own = torch.optim.SGD([{"params": network.body.parameters()}, {"params": network.fc.parameters()}], lr=0.3)
    resumed = fit(network, name="resumed", lr_mode=None, optimizer=own, initial_lr=None, max_epochs=2, resume=True)
    assert [group["lr"] for group in resumed.optimizer.param_groups] == [0.3, 0.3]


def test_a_resume_that_asks_for_another_rate_gets_it_without_a_schedule_too(fit):
    fit(name="resumed", lr_mode=None, initial_lr=0.1)
    assert (
        of_group(fit(name="resumed", lr_mode=None, max_epochs=2, resume=True, initial_lr=0.01), "default")["lr"] == 0.01
    )
    groups = {"body": 0.3, "default": 0.2}
    fit(name="groups", lr_mode=None, initial_lr=groups)
    resumed = fit(name="groups", lr_mode=None, max_epochs=2, resume=True, initial_lr={**groups, "body": 0.4})
    assert of_group(resumed, "body")["lr"] == 0.4 and of_group(resumed, "default")["lr"] == 0.2


def test_whether_steps_are_fused_is_this_machines(fit, tmp_path):
    fit(name="resumed", optimizer_params={"fused": True})
    resumed = fit(name="resumed", resume=True, max_epochs=2)
    assert not of_group(resumed, "default")["fused"]


def test_a_run_without_scaled_losses_goes_on_with_them(host):
    from super_gradients.training.sg_trainer.sg_trainer import Trainer

    from sg_resnets.host.repairs.precision import choose_format

    trainer = object.__new__(Trainer)
    trainer.training_params, trainer.checkpoint = {}, {"scaler_state_dict": {}, "net": {}}
    choose_format(lambda self, enabled: None, trainer, False)
    assert trainer.checkpoint == {"net": {}}


# What is refused.


def test_steps_of_more_batches_than_are_trained_on_are_refused(fit):
    with pytest.raises(SgResnetsError, match=r"batch_accumulate=4: an epoch has 2 batches, so that it would"):
        fit(max_train_batches=2, batch_accumulate=4)


def test_a_seed_is_a_number(fit):
    with pytest.raises(SgResnetsError, match=r"training_hyperparams.seed=None: must be an integer"):
        fit(seed=None)


def test_a_warm_up_is_cut_to_the_batches_that_are_trained_on(rates):
    warm_up = {"warmup_mode": "LinearBatchLRWarmup", "lr_warmup_steps": 4, "warmup_initial_lr": 0.0}
    seen = rates(max_train_batches=2, max_epochs=2, **warm_up)
    assert seen[:2] == pytest.approx([0.0, 0.1])


# Number formats, compilation, ONNX.


def test_testing_runs_in_the_users_autocast(fit):
    seen = []
    trainer = fit()
    trainer.net.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    from super_gradients.training.metrics import Accuracy

    with torch.autocast("cpu", dtype=torch.bfloat16):
        trainer.test(test_loader=loader(), test_metrics_list=[Accuracy()], loss=nn.CrossEntropyLoss())
    assert set(seen) == {torch.bfloat16}


def test_a_network_is_handed_back_uncompiled(fit):
    network = Network()
    fit(network, torch_compile=True, torch_compile_options={"backend": "eager"})
    assert torch.jit.trace(network, torch.zeros(1, 3, 8, 8))(torch.zeros(2, 3, 8, 8)).shape == (2, 4)


def test_a_network_is_converted_to_onnx_without_packages_that_are_not_there(tmp_path, host, monkeypatch):
    import onnx
    from super_gradients import import_utils
    from super_gradients.training import models

    network = models.get("resnet18", num_classes=4)
    path = models.convert_to_onnx(network, str(tmp_path / "net"), prep_model_for_conversion_kwargs={"input_size": (1, 3, 32, 32)})  # fmt: skip # noqa: E501
    assert onnx.load(path or tmp_path / "net.onnx").graph.node
    monkeypatch.setattr("pip.main", lambda args: pytest.fail("nothing is installed at run time"), raising=False)
    with pytest.raises(ImportError, match="pip install"):
        import_utils.import_onnx_graphsurgeon_or_install()


# Checkpoints and loggers.


def test_the_best_figure_is_taken_from_the_resumed_checkpoint_where_it_alone_is_left(fit):
    from sg_resnets.runs.checkpoints import read, write

    run = Path(fit().checkpoints_dir_path)
    state = read(run / "ckpt_latest.pth")
    state["acc"] = 0.99
    write(state, run / "ckpt_latest.pth")
    (run / "ckpt_best.pth").unlink()
    assert fit(max_epochs=2, resume=True).best_metric == 0.99
    del state["metrics"]
    write(state, run / "ckpt_best.pth")  # as other versions wrote it
    assert 0 <= fit(max_epochs=3, resume=True).best_metric < 0.99


def test_a_logger_of_the_users_gets_what_it_always_got(fit, monkeypatch):
    from super_gradients.common.registry.registry import SG_LOGGERS
    from super_gradients.common.sg_loggers.base_sg_logger import BaseSGLogger

    sent = []

    class Remote(BaseSGLogger):
        def add_checkpoint(self, tag, state_dict, global_step=0):
            sent.append((tag, state_dict["acc"]))

    monkeypatch.setitem(SG_LOGGERS, "remote", Remote)
    fit(sg_logger="remote", max_epochs=2)
    assert [tag for tag, _ in sent].count("ckpt_latest.pth") == 2


def test_a_body_may_be_called_student(fit, host):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.student = Network()

        def forward(self, x):
            return self.student(x)

    trainer = fit(Wrapped(), average_best_models=True)
    saved = torch.load(Path(trainer.checkpoints_dir_path, "ckpt_best.pth"), weights_only=True)["net"]
    assert all(name.startswith("student.") for name in saved)


def test_a_run_that_is_stopped_in_its_first_validation_goes_on_with_the_next_rate(fit, rates):
    from super_gradients.training.utils.callbacks import Callback

    class Stop(Callback):
        def on_validation_batch_end(self, context):
            raise KeyboardInterrupt

    step = {"lr_mode": {"StepLR": {"gamma": 0.1, "step_size": 1, "phase": "TRAIN_EPOCH_END"}}, "max_epochs": 3}
    whole = rates(**step, name="whole")
    fit(phase_callbacks=[Stop()], **step, name="parts")
    assert rates(**step, resume=True, name="parts") == pytest.approx(whole[STEPS:])


def test_weights_that_do_not_fit_are_a_runtime_error_too(fit, host):
    from super_gradients.training import models

    best = Path(fit().checkpoints_dir_path, "ckpt_best.pth")
    with pytest.raises(RuntimeError, match="does not fit resnet18") as refused:
        models.get("resnet18", num_classes=4, checkpoint_path=str(best))
    assert isinstance(refused.value, SgResnetsError)


def test_a_missing_file_is_a_file_not_found_error_too(train):
    with pytest.raises(FileNotFoundError, match="no checkpoint at nowhere") as refused:
        train("checkpoint_params.checkpoint_path=nowhere.pth")
    assert isinstance(refused.value, SgResnetsError) and str(pickle.loads(pickle.dumps(refused.value)))


# Recipes from Python.


def test_a_recipe_may_hold_enums_and_paths_and_its_checkpoints_are_read_again(compose, host, tmp_path):
    from super_gradients.common.data_types.enum import MultiGPUMode, StrictLoad
    from super_gradients.training import models

    cfg = compose("training_hyperparams.average_best_models=True")
    cfg.multi_gpu, cfg.checkpoint_params.strict_load = MultiGPUMode.OFF, StrictLoad.ON
    cfg._set_flag("allow_objects", True)
    cfg.ckpt_root_dir, cfg.training_hyperparams.initial_lr = tmp_path, np.float64(0.05)
    host.Trainer.train_from_config(cfg)
    (best,) = tmp_path.glob("*/*/ckpt_best.pth")
    recipe = torch.load(best, weights_only=True)["recipe"]
    assert recipe["multi_gpu"] == "Off" and recipe["checkpoint_params"]["strict_load"] is True
    assert recipe["training_hyperparams"]["initial_lr"] == 0.05
    arch = {"in_channels": 1, "depth": 8, "widths": [4, 8, 16]}
    models.get("resnet20_cifar", arch_params=arch, num_classes=10, checkpoint_path=str(best))


def test_a_recipe_may_be_a_dict_with_objects_and_without_a_batch_size(compose, host, tmp_path):
    from omegaconf import OmegaConf
    from super_gradients.training.utils.callbacks import Callback

    epochs = []

    class Count(Callback):
        def on_train_loader_end(self, context):
            epochs.append(context.epoch)

    cfg = OmegaConf.to_container(compose(f"ckpt_root_dir={tmp_path}"), resolve=True)
    cfg["training_hyperparams"]["phase_callbacks"] = [Count()]
    del cfg["dataset_params"]["val_dataloader_params"]["batch_size"], cfg["val_batch_size"]
    host.Trainer.train_from_config(cfg)
    assert epochs == [0]


PLUGIN = """
from super_gradients.common.registry.registry import register_lr_scheduler
from super_gradients.training.utils.callbacks.callbacks import PolyLRScheduler
@register_lr_scheduler("Mine")
class Mine(PolyLRScheduler): pass
"""


def test_a_plugin_is_imported_before_the_recipe_is_checked(train, tmp_path, monkeypatch):
    (tmp_path / "own_schedule.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    train("plugins=[own_schedule]", "training_hyperparams.lr_mode=Mine")


def test_a_key_that_others_refer_to_is_no_misspelling(train):
    _, run = train("+learning_rate=0.05", "training_hyperparams.initial_lr=${learning_rate}")
    assert torch.load(run / "ckpt_latest.pth")["recipe"]["training_hyperparams"]["initial_lr"] == 0.05
    with pytest.raises(SgResnetsError, match="nothing reads learning_rate: did you mean lr"):
        train("+learning_rate=0.05")


def test_a_checkpoint_knows_its_network_by_the_registered_name(train):
    _, run = train("architecture=ResNet20-CIFAR")
    assert torch.load(run / "ckpt_latest.pth")["recipe"]["architecture"] == "resnet20_cifar"


def test_a_missing_student_is_named(host, compose):
    cfg = compose(recipe="cityscapes_kd_base", tiny=False)
    with pytest.raises(SgResnetsError, match="student_architecture is missing: add student_architecture=VALUE"):
        host.KDTrainer.train_from_config(cfg)


def test_a_recipes_error_comes_back_from_another_process(compose, host):
    with pytest.raises(SgResnetsError) as refused:
        host.Trainer.train_from_config(compose("batch_size=0"))
    again = pickle.loads(pickle.dumps(refused.value))
    assert str(again) == str(refused.value) and isinstance(again, SgResnetsError)


def remote(host):
    """A logger that sends checkpoints away, and writes none."""
    from super_gradients.common.sg_loggers.base_sg_logger import BaseSGLogger

    class Remote(BaseSGLogger):
        def add_checkpoint(self, tag, state_dict, global_step=0):
            pass

    return Remote


def test_what_is_kept_of_a_run_whose_logger_writes_nothing_is_said_to_be_missing(fit, host, monkeypatch, capfd):
    from super_gradients.common.registry.registry import SG_LOGGERS

    monkeypatch.setitem(SG_LOGGERS, "remote", remote(host))
    trainer = fit(sg_logger="remote", keep_last=1)
    assert trainer.best_metric >= 0
    assert "epoch 1 is not kept: the logger of this run writes no ckpt_latest.pth" in capfd.readouterr().err


class Twice(nn.CrossEntropyLoss):
    """NaN at steps 6 and 7."""

    seen = 0

    def forward(self, outputs, labels):
        self.seen += torch.is_grad_enabled()
        return super().forward(outputs, labels) * (float("nan") if self.seen in (6, 7) and self.training else 1.0)


def test_a_callback_that_is_given_as_an_object_begins_anew_after_a_rollback(fit, host):
    from super_gradients.training.utils.callbacks import Callback

    class Count(Callback):
        def __init__(self):
            self.steps = 0

        def on_train_batch_start(self, context):
            self.steps += 1

    count = Count()
    fit(loss=Twice(), max_epochs=2, phase_callbacks=[count], on_divergence="rollback")
    assert count.steps == 2 * STEPS  # as if nothing had happened


def test_a_rollback_of_a_run_whose_logger_writes_nothing_goes_back_to_its_start(fit, host, monkeypatch):
    from super_gradients.common.registry.registry import SG_LOGGERS

    monkeypatch.setitem(SG_LOGGERS, "remote", remote(host))
    trainer = fit(loss=Twice(), max_epochs=2, sg_logger="remote", on_divergence="rollback")
    assert trainer.progress.rollbacks == 2 and trainer.training_params.initial_lr == 0.1 / 4


def test_a_rollback_in_a_run_that_goes_on_from_another_folder_comes_from_there(fit):
    run = Path(fit(max_epochs=1).checkpoints_dir_path)
    trainer = fit(loss=Twice(), max_epochs=4, resume_path=str(run / "ckpt_latest.pth"), on_divergence="rollback")
    assert Path(trainer.checkpoints_dir_path) != run and trainer.progress.rollbacks == 2
    assert len([*run.parent.glob("RUN_*")]) == 2


OWN_PARTS = """
import torch
from torch import nn
from torchmetrics import Metric
from sg_resnets.models import ResidualBlock, register_block
from super_gradients.common.registry.registry import register_metric, register_loss
@register_block("weighing")
class Weighing(ResidualBlock):
    def __init__(self, in_channels, channels, stride, config):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1)
        self.share = torch.linspace(0.0, 1.0, 3)[1].item()
    def residual(self, x):
        return self.share * self.conv1(x)
@register_metric("Picky")
class Picky(Metric):
    def __init__(self, dist_sync_on_step=False, share: float = None):
        super().__init__(dist_sync_on_step=dist_sync_on_step)
        self.add_state("seen", torch.tensor(0), dist_reduce_fx="sum")
    def update(self, preds, target):
        if len(preds) == 2:
            raise ValueError("it wants more of them")
        self.seen += len(preds)
    def compute(self):
        return self.seen
"""


def test_blocks_and_metrics_of_ones_own_are_not_tried_out_before(train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own_parts.py").write_text(OWN_PARTS)
    metrics = "training_hyperparams.valid_metrics_list=[Accuracy,{Picky: {share: null}}]"
    rates = "training_hyperparams.initial_lr={default: 0.01, fc: 0.1}"
    _, run = train("plugins=[own_parts]", "+arch_params.block=weighing", metrics, rates)
    assert torch.load(run / "ckpt_latest.pth")["metrics"]["valid"]["Picky"] == 100


def test_a_callback_of_ones_own_may_read_keys_of_its_own_and_only_where_it_is_named(train, host, monkeypatch):
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class Reader(Callback):
        def on_training_start(self, context):
            assert context.training_params.my_threshold == 3

    monkeypatch.setitem(CALLBACKS, "Reader", Reader)
    train("+training_hyperparams.my_threshold=3", "training_hyperparams.phase_callbacks=[Reader]")
    with pytest.raises(SgResnetsError, match=r"^nothing reads training_hyperparams.my_threshold"):
        train("+training_hyperparams.my_threshold=3")


@pytest.mark.parametrize("override", ["+dataset_params.train_dataloader_params.prefetch_factor=null", "num_workers=0"])
def test_null_leaves_a_parameter_to_its_class(override, train):
    train(override)


def test_a_whole_number_may_be_written_with_a_point(train):
    train("training_hyperparams.lr_mode={CosineAnnealingLR: {T_max: 4.0, phase: TRAIN_BATCH_STEP}}",
          "training_hyperparams.lr_warmup_epochs=0")  # fmt: skip


def test_a_run_is_evaluated_whatever_it_says_of_training(train, command):
    _, run = train()
    state = torch.load(run / "ckpt_best.pth")
    state["recipe"]["training_hyperparams"] |= {"weight_decay": 0.1, "lr_mode": "OfAnotherVersion"}
    state["recipe"]["dataset_params"]["train_dataloader_params"]["batch_size"] = 1
    torch.save(state, run / "sent.pth")
    code, printed, said = command("evaluate", run / "sent.pth")
    assert code == 0 and "test Accuracy" in printed, said


def test_a_run_without_a_folder_of_hydras_ends_well(train, host, monkeypatch):
    import shutil

    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class Tidy(Callback):
        def on_training_end(self, context):
            shutil.rmtree(Path(context.ckpt_dir, ".hydra"))

    monkeypatch.setitem(CALLBACKS, "Tidy", Tidy)
    assert train("training_hyperparams.phase_callbacks=[Tidy]")[1].is_dir()
