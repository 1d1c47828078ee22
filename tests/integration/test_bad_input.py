"""Recipes and plugins that cannot be meant are one line at SuperGradients' entry point."""

import sys

import pytest

from support import RECIPE, SMALL_RUN


@pytest.mark.parametrize(
    "wrong, words",
    [
        (
            ["--config-name=fashion_mnist_mini_resnet2"],
            ["unknown recipe", "fashion_mnist_mini_resnet20", "sg-resnets recipes"],
        ),
        ([RECIPE, "architecture=resnet21_cifar"], ["depth 21", "6n + 2", "20 and 26"]),
        ([RECIPE, "architecture=resnet20_cifer"], ["unknown model 'resnet20_cifer'", "resnet20_cifar"]),
        ([RECIPE, "+arch_params.block=botleneck"], ["unknown block", "bottleneck"]),
        ([RECIPE, "+arch_params.shortcut=E"], ["unknown shortcut 'E'", "A, B, C, D, none"]),
        (
            [RECIPE, "arch_params.in_channels=3"],
            ["takes 3-channel images but the data has 1", "arch_params.in_channels=1"],
        ),
        ([RECIPE, "dataset_params=cifar"], ["unknown dataset_params 'cifar'", "cifar10"]),
        ([RECIPE, "checkpoint_params.checkpoint_path=missing.pth"], ["no checkpoint at missing.pth"]),
        ([RECIPE, "dataset_params.train_dataset_params.cutout=99"], ["cutout=99", "from 0 to 28"]),
        (["--config-name=image_folder_resnet18", "arch_params.num_classes=2"], ["train_dataset_params.root=VALUE"]),
        ([RECIPE, "epochs=0"], ["epochs=0: must be an integer >= 1"]),
        ([RECIPE, "epochs=abc"], ["epochs='abc': must be an integer"]),
        ([RECIPE, "training_hyperparams.initial_lr=-1"], ["lr=-1: must be a number >= 0"]),
        ([RECIPE, "ema=maybe"], ["ema='maybe': must be True or False"]),
        ([RECIPE, "batch_size=0"], ["batch_size=0: must be"]),
        ([RECIPE, "training_hyperparams.mixed_precision=off"], ["mixed_precision='off': must be True or False"]),
        ([RECIPE, "training_hyperparams.channels_last=nope"], ["channels_last='nope': must be True or False"]),
        (
            [RECIPE, "dataset_params.train_dataset_params.horizontal_flip=maybe"],
            ["flip='maybe': must be True or False"],
        ),
        ([RECIPE, "training_hyperparams.batch_accumulate=1.5"], ["batch_accumulate=1.5: must be an integer >= 1"]),
        ([RECIPE, "+training_hyperparams.clip_grad_norm=big"], ["clip_grad_norm='big': must be a number >= 0"]),
        ([RECIPE, "training_hyperparams.optimizer_params.weight_decay=x"], ["weight_decay='x': must be a number >= 0"]),
        ([RECIPE, "training_hyperparams.criterion_params.smooth_eps=x"], ["smooth_eps='x': must be a number >= 0"]),
        ([RECIPE, "training_hyperparams.ema_params.decay=2"], ["ema_params.decay=2: must be a number from 0 to 1"]),
        ([RECIPE, "training_hyperparams.warmup_mode=Foo"], ["unknown warmup_mode 'Foo'", "LinearEpochLRWarmup"]),
        (
            [RECIPE, "+training_hyperparams.max_epoch=1"],
            ["nothing reads", "did you mean training_hyperparams.max_epochs?"],
        ),
        ([RECIPE, "training_hyperparams.warmup_mode=null"], ["unknown warmup_mode 'None'", "LinearEpochLRWarmup"]),
        ([RECIPE, "training_hyperparams.lr_mode=Cosine"], ["unknown lr_mode 'Cosine'", "CosineLRScheduler", "StepLR"]),
        ([RECIPE, "+learning_rate=3"], ["nothing reads learning_rate: did you mean lr?"]),
        ([RECIPE, "+epoch=1"], ["nothing reads epoch: did you mean epochs?"]),
        (
            [RECIPE, "training_hyperparams.optimizer=AdamW"],
            ["AdamW takes no momentum, nesterov", "'~training_hyperparams.optimizer_params.momentum'"],
        ),
        ([RECIPE, "batch_size=20000"], ["the training data has 12000 images", "smaller batch_size"]),
        ([RECIPE, "arch_params.num_classes=3"], ["3 classes but the data has 10", "arch_params.num_classes=10"]),
        ([RECIPE, "arch_params.num_classes=abc"], ["num_classes='abc': must be an integer"]),
        (
            ["--config-name=imagenet_resnet50_v1b_a3", "+debug=smoke", "arch_params.num_classes=10", "batch_size=7"],
            ["mixup and cutmix pair the images of a batch", "batch_size=7 must be even"],
        ),
        ([], ["no recipe is given", "sg-resnets recipes"]),
        ([RECIPE, "training_hyperparams.metric_to_watch=nope", *SMALL_RUN], ["metric_to_watch=nope", "Accuracy"]),
    ],
    ids=lambda value: value[-1].split("=")[0] if value and value[-1].count("=") else None,
)
def test_bad_input_is_one_line_at_the_hosts_entry_point(compose, host, wrong, words, capsys, monkeypatch, tmp_path):
    """In this process, through Hydra's own handling of the error, as `python -m super_gradients.train_from_recipe`."""
    import runpy

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train_from_recipe", *wrong])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("super_gradients.train_from_recipe", run_name="__main__", alter_sys=True)
    assert stopped.value.code == 1
    said = capsys.readouterr().err.splitlines()
    assert not any("Traceback" in line for line in said)
    frame = (
        "[",
        "Train epoch",
        "Validating",
        "  0%",
        "Error executing job",
        "Set the environment variable HYDRA_FULL_ERROR",
        "    - ",
        "      - ",
    )
    lines = [line for line in said if line and not line.startswith(frame)]  # besides the log's and Hydra's own
    assert len(lines) == 1 and all(word in lines[0] for word in words), lines


@pytest.mark.parametrize(
    "plugins, words",
    [
        ("[no_such_module]", "there is no module 'no_such_module'"),
        ("my_blocks", "must be a list of modules, such as plugins=.my_blocks."),
    ],
)
def test_a_wrong_plugin_is_one_line(train, plugins, words):
    with pytest.raises(ValueError, match=words):
        train(f"plugins={plugins}")
