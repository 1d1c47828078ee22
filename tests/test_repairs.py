"""Each repair of the host, seen by what a user does; each test fails without its repair."""

import functools
import pickle
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from sg_resnets.host.installed import REPAIRS
from sg_resnets.utils.errors import SgResnetsError


def test_every_repair_has_a_name_of_its_own_and_says_which_fault(host):
    names = [repair.name for repair in REPAIRS]
    assert len(set(names)) == len(names) and host._sg_resnets_active
    assert all(repair.fault and repair.changes for repair in REPAIRS)


def test_another_version_of_the_host_is_refused_in_one_line(run_python, tmp_path):
    code = (
        "import sys, types; host = types.ModuleType('super_gradients'); host.__version__, host.__all__ = '3.6.0', []\n"
        "sys.modules['super_gradients'] = host; from sg_resnets.host import activation; activation.activate()"
    )
    done = run_python("-c", code, cwd=tmp_path)
    assert "3.6.0 is installed but 3.7.1 is needed: pip install --no-deps" in done.stderr
    assert done.stderr.count("\n") == 1


def test_multirun_shortcuts(train, compose):
    cfg = compose("lr=0.03", "epochs=1", tiny=True)
    assert cfg.training_hyperparams.initial_lr == 0.1  # composed, as a sweep's job is, without the shortcut callback
    _, run = train("lr=0.03")
    recipe = OmegaConf.load(run / ".hydra" / "config.yaml")
    assert recipe.training_hyperparams.initial_lr == 0.03 and recipe.training_hyperparams.max_epochs == 1
    assert torch.load(run / "ckpt_latest.pth")["epoch"] == 1


def test_seed_before_model(train):
    first, other, again = (
        train(f"training_hyperparams.seed={seed}", "lr=0.0", "training_hyperparams.max_train_batches=1")[0].conv1.weight
        for seed in (1, 2, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_recipe_of_a_run(train, host, tmp_path):
    # A group override, after which the host cannot compose the run's recipe again.
    _, run = train("training_hyperparams=he2015_cifar", "epochs=2", "lr=0.01")
    state = torch.load(run / "ckpt_best.pth", weights_only=True)
    assert state["recipe"]["architecture"] == "resnet20_cifar" and state["recipe"]["arch_params"]["widths"] == [
        4,
        8,
        16,
    ]
    state["net"]["fc.weight"].zero_()
    state["net"]["fc.bias"].copy_(torch.arange(10.0))  # always the last class
    torch.save(state, run / "ckpt_constant.pth")
    experiment = {"experiment_name": run.parent.name, "ckpt_root_dir": str(tmp_path)}
    _, constant = host.Trainer.evaluate_checkpoint(ckpt_name="ckpt_constant.pth", **experiment)
    assert float(constant["Accuracy"]) == pytest.approx(0.1)
    _, best = host.Trainer.evaluate_checkpoint(ckpt_name="ckpt_best.pth", **experiment)
    assert float(best["Accuracy"]) == pytest.approx(state["acc"])
    host.Trainer.resume_experiment(**experiment)
    assert torch.load(run / "ckpt_latest.pth")["epoch"] == 2


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


def test_repeated_augmentation(train):
    """In one process, and on fewer images than 256; two processes are in `test_ddp.py`."""
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    epochs = []

    class Watch(Callback):
        def on_train_batch_end(self, context):
            epochs.append(list(context.train_loader.sampler))

    CALLBACKS["Watch"] = Watch
    train(
        "training_hyperparams.phase_callbacks=[Watch]",
        "training_hyperparams.max_train_batches=1",
        "epochs=2",
        "+dataset_params.train_dataloader_params.sampler.RepeatAugSampler.num_repeats=3",
        "++dataset_params.train_dataset_params.max_samples=192",
    )
    assert [(len(epoch), len(set(epoch))) for epoch in epochs] == [(192, 64)] * 2
    assert set(epochs[0]) != set(epochs[1])


def test_average_best_models(train):
    _, run = train("epochs=2", "training_hyperparams.average_best_models=True")
    averaged = torch.load(run / "average_model.pth", weights_only=True)["net"]
    latest = torch.load(run / "ckpt_latest.pth", weights_only=True)["net"]
    assert not torch.equal(averaged["conv1.weight"], latest["conv1.weight"])
    _, resumed = train("epochs=3", "training_hyperparams.average_best_models=True", "resume=True")
    assert resumed == run


def test_atomic_checkpoints(host, tmp_path, monkeypatch):
    from super_gradients.common.sg_loggers import base_sg_logger
    from super_gradients.training.utils import weight_averaging_utils

    for module in (base_sg_logger, weight_averaging_utils):
        path = tmp_path / f"{module.__name__}.pth"
        module.torch.save({"whole": torch.ones(3)}, path)

        class Killed:
            def __reduce__(self):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            module.torch.save({"half": torch.zeros(3), "and": Killed()}, path)
        assert torch.equal(torch.load(path)["whole"], torch.ones(3))
    assert len(list(tmp_path.iterdir())) == 2  # nothing half-written is left


class _RunsCode:
    def __reduce__(self):
        return (open, ("/tmp/sg_resnets_was_run", "w"))


def test_safe_checkpoints(train, host, tmp_path):
    from super_gradients.training import models

    _, run = train()
    good = run / "ckpt_best.pth"
    cut, evil, evil_pickle = tmp_path / "cut.pth", tmp_path / "evil.pth", tmp_path / "evil_old.pth"
    cut.write_bytes(good.read_bytes()[:2000])
    torch.save({"net": _RunsCode()}, evil)
    evil_pickle.write_bytes(pickle.dumps({"net": _RunsCode()}))

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
    assert not Path("/tmp/sg_resnets_was_run").exists()
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


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_interrupt_saves(tmp_path, train, run_python):
    """Ctrl-C in the first epoch, as a user presses it, and then resume."""
    command = [sys.executable, "-m", "super_gradients.train_from_recipe", "--config-name=fashion_mnist_mini_resnet20"]
    small = ["+arch_params.depth=8", "+arch_params.widths=[4,8,16]", "batch_size=8", "epochs=1", "ckpt_root_dir=."]
    # A shell that runs the suite in its background has children ignore SIGINT; a user's terminal does not.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen([*command, *small], cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    seen = ""
    while "Accuracy=" not in seen:  # the progress bar of a running epoch
        seen += process.stderr.read(1)
        assert process.poll() is None, seen
    process.send_signal(signal.SIGINT)
    process.stderr.read()
    assert process.wait(60) == 130
    (latest,) = tmp_path.glob("*/RUN_*/ckpt_latest.pth")
    state = torch.load(latest, weights_only=True)
    assert state["epoch"] == 0 and state["net"]["bn1.num_batches_tracked"] > 0
    _, run = train("training_hyperparams.resume=True", "+training_hyperparams.extra=null")
    assert run == latest.parent and torch.load(latest)["epoch"] == 1


def _pressed(where, after):
    """A callback in whose event `where` Ctrl-C is pressed, once, at the batch of number `after`."""
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class CtrlC(Callback):
        count = 0

        def pressed(self, context):
            CtrlC.count += 1
            if CtrlC.count == after:
                raise KeyboardInterrupt

    setattr(CtrlC, where, CtrlC.pressed)
    CALLBACKS["CtrlC"] = CtrlC
    return "training_hyperparams.phase_callbacks=[CtrlC]"


@pytest.mark.parametrize("ema", [False, True])
def test_interrupt_in_the_first_validation_loses_no_epoch(train, ema):
    _, run = train("epochs=2", f"ema={ema}")
    with pytest.raises(SystemExit, match="130"):
        train("epochs=2", f"ema={ema}", "experiment_name=cut", _pressed("on_validation_batch_end", 1))
    (cut,) = (run.parents[1] / "cut").glob("RUN_*")
    assert torch.load(cut / "ckpt_latest.pth")["epoch"] == 1
    _, again = train("epochs=2", f"ema={ema}", "experiment_name=cut", "resume=True")
    assert again == cut
    expected, found = (torch.load(folder / "ckpt_latest.pth")["net"] for folder in (run, cut))
    assert all(torch.equal(expected[key], value) for key, value in found.items())


def test_interrupt_in_the_first_epoch_begins_its_schedule_again(train, tmp_path):
    one_cycle = "training_hyperparams.lr_mode={OneCycleLR: {max_lr: 0.1, total_steps: 8, phase: TRAIN_BATCH_STEP}}"
    settings = ("epochs=2", "training_hyperparams.lr_warmup_epochs=0", one_cycle)  # 4 batches an epoch
    with pytest.raises(SystemExit, match="130"):
        train(*settings, _pressed("on_train_batch_end", 3))
    (run,) = tmp_path.glob("*/RUN_*")
    assert torch.load(run / "ckpt_latest.pth")["epoch"] == 0
    train(*settings, "resume=True")
    assert torch.load(run / "ckpt_latest.pth")["epoch"] == 2


def test_interrupt_ends_a_sweep(run_python, tmp_path):
    (tmp_path / "ctrl_c.py").write_text(
        "from super_gradients.common.registry.registry import register_callback\n"
        "from super_gradients.training.utils.callbacks import Callback\n"
        "@register_callback('CtrlC')\n"
        "class CtrlC(Callback):\n"
        "    def on_train_batch_end(self, context):\n"
        "        raise KeyboardInterrupt\n"
    )
    done = run_python(
        "-m", "super_gradients.train_from_recipe", "-m", "--config-name=fashion_mnist_mini_resnet20", "lr=0.1,0.01",
        "+arch_params.depth=8", "plugins=[ctrl_c]", "training_hyperparams.phase_callbacks=[CtrlC]", "epochs=1",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 130 and "Traceback" not in done.stderr
    assert len(list(tmp_path.rglob("ckpt_latest.pth"))) == 1


def test_zero_weight_decay_holds_for_scalars_and_factors_of_a_channel(host):
    from super_gradients.training.utils.optimizer_utils import _get_no_decay_param_ids

    from sg_resnets.models import ResNet
    from sg_resnets.models.zoo import ZOO

    small = ZOO["resnet20_cifar"].config.override(depth=8)
    for network in (ResNet(small.override(scaling="fixup", norm="none")), ResNet(small.override(scaling="layerscale"))):
        spared = set(_get_no_decay_param_ids(network))
        decays = {name.rpartition(".")[0] for name, p in network.named_parameters() if id(p) not in spared}
        layers = {name for name, m in network.named_modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)}
        assert decays == layers
        assert all(id(network.get_submodule(name).weight) not in spared for name in layers)


def test_a_disk_that_is_full_is_one_line(train, monkeypatch):
    def full(state, path):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1 vs 2")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ValueError, match=r"ckpt_latest\.pth cannot be written .*: is the disk full\?$"):
        train()


def _update(train, batch, accumulate):
    """What one optimiser step on the same 64 images moves, without augmentation or batch-norm's help."""
    from sg_resnets.models import ResNet

    network, _ = train(
        f"batch_size={batch}",
        f"training_hyperparams.batch_accumulate={accumulate}",
        f"training_hyperparams.max_train_batches={accumulate}",
        "training_hyperparams=he2015_cifar",
        "training_hyperparams.optimizer_params={momentum: 0.0, weight_decay: 0.0}",
        "lr=0.1",
        "dataset_params.train_dataset_params.crop_padding=0",
        "dataset_params.train_dataset_params.horizontal_flip=False",
        "dataset_params.train_dataloader_params.shuffle=False",
    )
    torch.manual_seed(42)
    start = ResNet(network.config)
    return network.fc.bias.detach() - start.fc.bias.detach()


def test_batch_accumulate(train):
    whole, accumulated = _update(train, 64, 1), _update(train, 32, 2)
    assert (accumulated.norm() / whole.norm()).item() == pytest.approx(1, abs=0.1)  # 2 without the repair


def _learning_rates(train, *overrides):
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    rates = []

    class Watch(Callback):
        def on_train_batch_gradient_step_start(self, context):
            rates.append(context.optimizer.param_groups[0]["lr"])

    CALLBACKS["Watch"] = Watch
    train("training_hyperparams.phase_callbacks=[Watch]", *overrides)
    return rates


def test_lr_schedulers(train):
    rates = _learning_rates(
        train, "lr=1.0", "epochs=2", "training_hyperparams.lr_warmup_epochs=0"
    )  # 4 batches an epoch
    steps = np.arange(8)
    assert rates == pytest.approx(0.5 * (1 + np.cos(steps / 9 * np.pi)))
    rates = _learning_rates(train, "lr=1.0", "epochs=3")  # 187 steps of warm-up in the recipe: an epoch's is the most
    assert rates == pytest.approx([0, 1 / 3, 2 / 3, 1, *0.5 * (1 + np.cos(np.arange(8) / 9 * np.pi))])
    rates = _learning_rates(
        train,
        "training_hyperparams=he2015_cifar",
        "~training_hyperparams.lr_mode.MultiStepLR",
        "+training_hyperparams.lr_mode.OneCycleLR={max_lr: 1.0, total_steps: 10, phase: TRAIN_BATCH_STEP}",
        "training_hyperparams.lr_warmup_epochs=0",
        "epochs=2",
    )
    assert rates[0] == pytest.approx(0.04) and rates[2] == pytest.approx(1.0) and rates[2] > rates[-1]


def test_early_stop(train):
    stop = "{EarlyStop: {phase: VALIDATION_EPOCH_END, monitor: Accuracy, mode: max, patience: 1, min_delta: 2.0}}"
    _, run = train("epochs=5", f"training_hyperparams.phase_callbacks=[{stop}]")
    assert torch.load(run / "ckpt_latest.pth")["epoch"] == 2


def test_focal_loss(host):
    from super_gradients.common.factories.losses_factory import LossesFactory

    loss = LossesFactory().get({"FocalLoss": {"loss_fcn": torch.nn.BCEWithLogitsLoss(), "gamma": 2.0}})
    logit, target = torch.tensor([2.0]), torch.tensor([1.0])
    p = torch.sigmoid(logit)
    assert loss(logit, target).item() == pytest.approx((-0.25 * (1 - p) ** 2 * p.log()).item(), rel=1e-5)


def test_torchvision_processing(host):
    from super_gradients.training.datasets.classification_datasets.cifar import (
        get_torchvision_transforms_equivalent_processing as used,
    )
    from super_gradients.training.datasets.classification_datasets.torchvision_utils import (
        get_torchvision_transforms_equivalent_processing as processing,
    )
    from torchvision import transforms as t

    assert used is processing
    steps = processing(t.Compose([t.Resize([256, 256]), t.CenterCrop(224), t.ToTensor()]))
    assert steps[:2] == [{"Resize": {"size": 256}}, {"CenterCrop": {"size": 224}}]


def test_false_warnings(train, caplog):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train()
    said = [str(warning.message) for warning in caught] + [record.getMessage() for record in caplog.records]
    assert not [line for line in said if "torch.cuda.amp" in line or "Passing num_classes" in line]


def _formats(train, *overrides):
    """The formats that a convolution computed in, in training and in validation, and the run's folder."""
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    seen = {True: set(), False: set()}

    class Watch(Callback):
        def on_training_start(self, context):
            note = lambda module, inputs, output: seen[module.training].add(output.dtype)  # noqa: E731
            context.net.conv1.register_forward_hook(note)

    CALLBACKS["Watch"] = Watch
    network, run = train("training_hyperparams.phase_callbacks=[Watch]", *overrides)
    return seen, network, run


def test_mixed_precision(train):
    bfloat16 = "training_hyperparams.mixed_precision_dtype=bfloat16"
    seen, network, run = _formats(train, "training_hyperparams.mixed_precision=True", bfloat16)
    assert seen == {True: {torch.bfloat16}, False: {torch.bfloat16}}
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert torch.load(run / "ckpt_latest.pth")["scaler_state_dict"] == {}  # bfloat16 needs no scaling of the loss
    seen, _, _ = _formats(train, "training_hyperparams.mixed_precision=False", bfloat16)
    assert seen == {True: {torch.float32}, False: {torch.float32}}
    _, run = train("training_hyperparams.mixed_precision=True", bfloat16, "epochs=2", "resume=True")
    assert torch.load(run / "ckpt_latest.pth")["epoch"] == 2
    for wrong, words in (("float16", "needs a GPU"), ("int8", "valid: bfloat16, float16")):
        with pytest.raises(ValueError, match=words):
            train("training_hyperparams.mixed_precision=True", f"training_hyperparams.mixed_precision_dtype={wrong}")


@pytest.mark.parametrize(
    ("device", "has", "forced", "dtype"),
    [
        ("cpu", (), None, None),
        ("cpu", ("amx_tile",), None, torch.bfloat16),
        ("cpu", ("avx512_bf16",), None, torch.bfloat16),
        ("cpu", (), "bf16", torch.bfloat16),
        ("cuda:0", ("cuda",), None, torch.bfloat16),
        ("cuda:0", (), None, torch.float16),
        ("cuda:0", ("cuda",), "float16", torch.float16),
    ],
)
def test_mixed_precision_is_what_the_hardware_computes_in(monkeypatch, device, has, forced, dtype):
    from sg_resnets.training.precision import mixed_dtype

    for feature in ("amx_tile", "avx512_bf16"):
        monkeypatch.setattr(torch.cpu, f"_is_{feature}_supported", lambda feature=feature: feature in has)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: "cuda" in has)
    assert mixed_dtype(device, forced) is dtype


def test_compile_in_place(train, host):
    from super_gradients.training import models

    compiled = ("training_hyperparams.torch_compile=True", "training_hyperparams.ema=True")
    options = "training_hyperparams.torch_compile_options={backend: aot_eager}"
    network, run = train(*compiled, options)
    assert network._compiled_call_impl is not None
    state = torch.load(run / "ckpt_best.pth")
    arch = {"in_channels": 1, "depth": 8, "widths": [4, 8, 16], "num_classes": 10}
    for net in ("net", "ema_net"):
        models.get("resnet20_cifar", arch_params=arch).load_state_dict(state[net], strict=True)
    eager, _ = train("training_hyperparams.ema=True")
    torch.testing.assert_close(network.fc.weight, eager.fc.weight, rtol=1e-3, atol=1e-4)


def test_int8(train, host, tmp_path):
    """The host's own Python interface quantises, without pip and without `pytorch_quantization`."""
    from super_gradients.training import dataloaders

    network, _ = train()
    params = {"dataset": "fashion_mnist_mini", "batch_size": 50, "collate_fn": "whole_batch"}
    loader = dataloaders.get(dataset_params={"train": False, "max_samples": 100}, dataloader_params=params)
    trainer = host.Trainer("int8", ckpt_root_dir=str(tmp_path))
    from super_gradients.training.metrics import Accuracy

    result = trainer.ptq(model=network, valid_loader=loader, valid_metrics_list=[Accuracy()])
    assert Path(result.output_onnx_path).name == "ptq.onnx" and Path(result.output_onnx_path).is_file()
    assert 0 <= result.valid_metrics_dict["Accuracy"] <= 1 and "pytorch_quantization" not in sys.modules
