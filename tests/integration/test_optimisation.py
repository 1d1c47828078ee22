"""What the optimiser is given: gradients, rates, formats, layouts, compiled networks, repeated images."""

import numpy as np
import pytest
import torch


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
    for wrong, words in (("float16", "needs a GPU"), ("int8", "must be bfloat16 or float16")):
        with pytest.raises(ValueError, match=words):
            train("training_hyperparams.mixed_precision=True", f"training_hyperparams.mixed_precision_dtype={wrong}")


def test_compile_in_place(train, host):
    from super_gradients.training import models
    from torch._dynamo.utils import counters

    compiled = ("training_hyperparams.torch_compile=True", "training_hyperparams.ema=True")
    options = "training_hyperparams.torch_compile_options={backend: aot_eager}"
    compiled_before = counters["stats"]["unique_graphs"]
    network, run = train(*compiled, options)
    assert counters["stats"]["unique_graphs"] == compiled_before + 1  # not another one for validation
    state = torch.load(run / "ckpt_best.pth")
    arch = {"in_channels": 1, "depth": 8, "widths": [4, 8, 16], "num_classes": 10}
    for net in ("net", "ema_net"):
        models.get("resnet20_cifar", arch_params=arch).load_state_dict(state[net], strict=True)
    eager, _ = train("training_hyperparams.ema=True")
    torch.testing.assert_close(network.fc.weight, eager.fc.weight, rtol=1e-3, atol=1e-4)


def test_what_is_watched_of_a_compiled_network_is_what_is_watched_of_another(train):
    watched = ("epochs=2", "training_hyperparams.phase_callbacks=[ActivationStatistics]")
    compiled = (
        "training_hyperparams.torch_compile=True",
        "training_hyperparams.torch_compile_options={backend: eager}",
    )
    rows = []
    for given in ((), compiled):
        _, run = train(*watched, *given)
        rows.append((run / "activations.csv").read_text().splitlines())
    assert len(rows[0]) == 7 and rows[0] == rows[1]


@pytest.mark.parametrize("mixing", ["mixup_alpha: 0.2, cutmix_alpha: 0.0", "mixup_alpha: 0.0, cutmix_alpha: 1.0"])
def test_pictures_in_memory_are_mixed(mixing, train):
    collate = "dataset_params.train_dataloader_params.collate_fn"
    train(
        f"~{collate}",
        f"+{collate}={{_target_: super_gradients.training.datasets.mixup.CollateMixup, {mixing}, label_smoothing: 0.1, "
        "num_classes: 10}",
        "training_hyperparams.train_metrics_list=[]",
        "training_hyperparams.criterion_params.smooth_eps=0",
    )


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


def test_channels_last_is_a_key_of_every_recipe_and_changes_no_figure(train):
    import torch

    results = []
    for wanted in (True, False):
        network, run = train(f"training_hyperparams.channels_last={wanted}", "++arch_params.widths=[8,16,32]")
        weight = network.layer2[0].conv1.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) is wanted
        results.append(torch.load(run / "ckpt_latest.pth")["net"]["fc.weight"])
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)


def test_channels_last_is_left_out_where_pytorch_corrupts_memory(train):
    """A 1x1 convolution of stride 2 with 4 input channels, in channels_last on a CPU: 'double free or corruption'."""
    network, _ = train("+arch_params.shortcut=B", "training_hyperparams.channels_last=True")
    assert network.layer2[0].downsample[0].in_channels == 4
