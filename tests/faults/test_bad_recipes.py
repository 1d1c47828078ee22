"""Recipes that cannot be meant: a line for each mistake, before anything is trained, all at once, and soon."""

import time

import pytest

from sg_resnets.utils.errors import SgResnetsError

T, D = "training_hyperparams", "dataset_params"
# What is wrong, and words of the line that says so.
BAD = [
    # Numbers and types.
    (["epochs=0"], "epochs=0: must be an integer >= 1"),
    (["epochs=two"], "epochs='two': must be an integer"),
    (["epochs=1.5"], "epochs=1.5: must be an integer"),
    (["lr=-1"], "lr=-1: must be a number >= 0"),
    (["lr=high"], "lr='high': must be a number"),
    (["batch_size=0"], "batch_size=0: must be an integer >= 1"),
    (["val_batch_size=0"], "val_batch_size=0: must be"),
    (["num_workers=-1"], "num_workers=-1: must be an integer >= 0"),
    (["ema=maybe"], "ema='maybe': must be True or False"),
    (["resume=perhaps"], "resume='perhaps': must be True, False or auto"),
    ([f"{T}.seed=-3"], "seed=-3: must be an integer >= 0"),
    ([f"{T}.seed=one"], "seed='one': must be"),
    ([f"{T}.mixed_precision=bf16"], "mixed_precision='bf16': must be True or False; mixed_precision_dtype chooses"),
    ([f"{T}.mixed_precision_dtype=float8"], "mixed_precision_dtype"),
    ([f"{T}.save_every=often"], "save_every='often': must be a time or a number of steps"),
    ([f"{T}.keep_last=-1"], "keep_last=-1: must be an integer >= 0"),
    ([f"{T}.keep_best=all"], "keep_best='all': must be an integer"),
    ([f"{T}.on_divergence=retry"], "on_divergence='retry': must be one of stop, rollback"),
    ([f"{T}.deterministic=very"], "deterministic='very': must be True or False"),
    ([f"{T}.batch_accumulate=0"], "batch_accumulate=0: must be an integer >= 1"),
    ([f"+{T}.clip_grad_norm=-1"], "clip_grad_norm=-1: must be a number >= 0"),
    ([f"{T}.optimizer_params.weight_decay=much"], "weight_decay='much': must be a number"),
    ([f"{T}.optimizer_params.nesterov=7.5"], "nesterov=7.5"),
    ([f"{T}.optimizer_params.momentum=big"], "momentum='big'"),
    ([f"{T}.ema_params.decay=1.5"], "ema_params.decay=1.5: must be a number from 0 to 1"),
    ([f"{T}.run_validation_freq=often"], "run_validation_freq='often': must be a number"),
    ([f"{T}.average_best_models=sometimes"], "average_best_models='sometimes': must be True or False"),
    ([f"++{T}.save_ckpt_epoch_list=3"], "save_ckpt_epoch_list=3: must be a list"),
    ([f"{T}.valid_metrics_list=Accuracy"], "valid_metrics_list='Accuracy': must be a list"),
    ([f"{T}.optimizer_params=none"], "optimizer_params='none': must be a dict"),
    ([f"{D}.train_dataset_params.horizontal_flip=left"], "horizontal_flip='left': must be True or False"),
    ([f"{D}.train_dataset_params.cutout=99"], "cutout=99"),
    ([f"++{D}.train_dataloader_params.drop_last=maybe"], "drop_last='maybe': the loader takes True or False"),
    ([f"+{D}.train_dataloader_params.prefetch_factor=much"], "prefetch_factor='much': the loader takes an integer"),
    ([f"{T}.phase_callbacks=[NaN]"], r"phase_callbacks has nan: must be names, or"),
    ([f"{T}.valid_metrics_list=[Accuracy,null]"], r"valid_metrics_list has None: must be names"),
    # Names.
    (["architecture=resnet20_cifer"], "unknown model 'resnet20_cifer': did you mean resnet20_cifar"),
    (["+arch_params.block=botleneck"], "unknown block .*bottleneck"),
    (["+arch_params.shortcut=E"], "unknown shortcut 'E': valid: A, B, C, D, none"),
    (["+arch_params.atention=se"], "atention.*attention"),
    (["+arch_params.depths=[1,1,1]"], "depth=8 and depths="),
    ([f"{T}.optimizer=SDG"], "SDG"),
    ([f"{T}.loss=CrosEntropyLoss"], "CrosEntropyLoss"),
    ([f"{T}.warmup_mode=Linear"], "unknown warmup_mode 'Linear'"),
    ([f"{T}.lr_mode=Cosine"], "unknown lr_mode 'Cosine': .*CosineLRScheduler"),
    ([f"{T}.phase_callbacks=[TrainingCurve]"], "TrainingCurve"),
    ([f"{T}.valid_metrics_list=[Acuracy]"], "Acuracy"),
    ([f"{T}.metric_to_watch=F1"], "metric_to_watch=F1"),
    # Keys that nothing reads.
    (["+learning_rate=3"], "nothing reads learning_rate: did you mean lr?"),
    (["+epoch=1"], "nothing reads epoch: did you mean epochs?"),
    ([f"+{T}.max_epoch=1"], "nothing reads training_hyperparams.max_epoch: did you mean .*max_epochs?"),
    ([f"+{T}.weight_decay=0.1"], "nothing reads .*weight_decay: did you mean .*optimizer_params.weight_decay?"),
    ([f"+{T}.patience=3"], "nothing reads training_hyperparams.patience"),
    ([f"+{T}.criterion_params.label_smoothing=0.1"], "CrossEntropyLoss takes no label_smoothing"),
    ([f"{T}.optimizer=AdamW"], "AdamW takes no momentum, nesterov"),
    ([f"{T}.valid_metrics_list=[{{Accuracy: {{topk: 1}}}}]"], "Accuracy takes no topk"),
    ([f"+{D}.train_dataloader_params.shufle=True"], "the loader takes no shufle: did you mean shuffle"),
    ([f"+{D}.train_dataset_params.cut_out=4"], "cut_out"),
    # What does not go together.
    ([f"{T}=he2015_cifar", f"+{T}.lr_mode={{StepLR: {{step_size: 1, phase: TRAIN_BATCH_STEP}}}}"],
     "lr_mode has MultiStepLR and StepLR, and takes one"),
    ([f"{T}.lr_mode={{StepLR: {{phase: TRAIN_BATCH_STEP}}}}"], "StepLR needs step_size"),
    ([f"{T}.initial_lr={{default: 0.01, head: 0.1}}"], "no parameter's name begins with 'head': .*fc"),
    ([f"{T}.initial_lr={{fc: 0.1}}"], "needs one for all other layers: default"),
    ([f"{T}.batch_accumulate=9"], "batch_accumulate=9: an epoch has 4 batches"),
    (["batch_size=1"], "batch_size=1: batch-norm takes its statistics of a batch"),
    (["batch_size=999"], "256 images, fewer than one batch of 999"),
    (["arch_params.num_classes=3", f"{T}.valid_metrics_list=[Accuracy, Top5]"], "metric Top5 cannot be computed of 3"),
    (["arch_params.num_classes=3"], "3 classes but the data has 10"),
    (["arch_params.in_channels=3"], "takes 3-channel images but the data has 1"),
    ([f"{T}.loss=BinaryCrossEntropy"], "takes no smooth_eps"),
    ([f"{T}.phase_callbacks=[{{EarlyStop: {{phase: VALIDATION_EPOCH_END, monitor: Accuracy, mode: min}}}}]"],
     "EarlyStop: mode=min, but greater_metric_to_watch_is_better=True of Accuracy: set mode: max"),
    ([f"{T}.phase_callbacks=[{{EarlyStop: {{phase: VALIDATION_EPOCH_END, monitor: F2, mode: max}}}}]"],
     "EarlyStop: monitor=F2: .*Accuracy; or the loss"),
    (["checkpoint_params.checkpoint_path=missing.pth"], "no checkpoint at missing.pth"),
    (["checkpoint_params.pretrained_weights=imagenet"], "imagenet"),
    ([f"{T}.on_divergence=rollback", f"{T}.save_model=False"], "on_divergence=rollback needs checkpoints"),
    ([f"{T}.sg_logger=wandb_sg_logger"], "needs wandb: pip install wandb"),
    (["plugins=[no_such_module]"], "there is no module 'no_such_module'"),
    (["plugins=my_blocks"], r"must be a list of modules, such as plugins=\[my_blocks\]"),
    (["multi_gpu=DDP", "num_gpus=99"], "num_gpus=99"),
]  # fmt: skip


@pytest.fixture
def before_training(host, monkeypatch):
    def too_late(*args, **kwargs):
        raise AssertionError("it was trained")

    monkeypatch.setattr(host.Trainer, "_train_epoch", too_late)


@pytest.mark.parametrize("overrides, words", BAD, ids=[words for _, words in BAD])
def test_each_has_its_line_before_training(overrides, words, train, before_training):
    with pytest.raises((SgResnetsError, SystemExit), match=words) as error:
        train(*overrides)
    assert "\n" not in str(error.value)


def test_all_mistakes_are_said_at_once_and_soon(train, before_training):
    every = ["epochs=0", "lr=high", "+arch_params.shortcut=E", f"{T}.lr_mode=Cosine", f"+{T}.patience=3"]
    began = time.process_time()
    with pytest.raises(SgResnetsError) as error:
        train(*every)
    assert time.process_time() - began < 3
    head, *lines = str(error.value).splitlines()
    assert head == "5 mistakes in the recipe:" and all(line.startswith("- ") for line in lines)
    for words in ("epochs=0", "lr='high'", "shortcut 'E'", "lr_mode 'Cosine'", "training_hyperparams.patience"):
        assert any(words in line for line in lines), words
