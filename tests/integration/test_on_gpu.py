"""Each kind of recipe trains on a GPU: `make gpu`."""

import signal
import subprocess
import sys

import pytest
import torch

from sg_resnets.data.image_folder import noise_folder
from sg_resnets.runs.checkpoints import read
from sg_resnets.runs.evaluate import evaluate_checkpoint
from support import RECIPE, SMALL_RUN

pytestmark = pytest.mark.gpu

BFLOAT16 = ("training_hyperparams.mixed_precision=True", "training_hyperparams.mixed_precision_dtype=bfloat16")
FLOAT16 = ("training_hyperparams.mixed_precision=True", "training_hyperparams.mixed_precision_dtype=float16")


def check(network, run):
    """It was trained there, and its checkpoint is read where there is no GPU too."""
    assert all(parameter.is_cuda for parameter in network.parameters())
    state = read(run / "ckpt_latest.pth")
    assert all(value.isfinite().all() for value in state["net"].values())
    figures = dict(evaluate_checkpoint(run / "ckpt_latest.pth", []))
    assert any(name.endswith("Accuracy") and 0 <= float(value) <= 1 for name, value in figures.items())


@pytest.mark.parametrize(
    "overrides",
    [
        ("training_hyperparams.mixed_precision=False",),
        BFLOAT16,
        FLOAT16,
        (*(f"dataset_params.{split}_dataset_params.data_on=host" for split in ("train", "val")), "num_workers=2"),
        ("dataset_params.train_dataset_params.cutout=8", "dataset_params.train_dataset_params.crop_padding=2"),
        ("training_hyperparams=muon_few_epochs", "training_hyperparams.lr_warmup_epochs=0"),
        ("ema=True", "training_hyperparams.batch_accumulate=2"),
        ("training_hyperparams.deterministic=True",),
        ("training_hyperparams.phase_callbacks=[TrainingCurves,GradientFlow,ActivationStatistics]",),
        ("training_hyperparams.torch_compile=True", *BFLOAT16),
        (
            "training_hyperparams.torch_compile=True",
            "training_hyperparams.torch_compile_options={mode: reduce-overhead}",
        ),
    ],
    ids=lambda overrides: overrides[0].partition(".")[2],
)
def test_images_in_memory(overrides, train):
    check(*train(*SMALL_RUN, "epochs=2", *overrides, tiny=False))


def test_a_step_waits_for_nothing_and_a_label_below_0_is_found_afterwards(train, host):
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.metrics import Accuracy
    from super_gradients.training.utils.callbacks import Callback

    class Watch(Callback):
        def on_train_batch_start(self, context):
            torch.cuda.set_sync_debug_mode("error" if 4 <= context.batch_idx < 12 else "default")

    CALLBACKS["Watch"] = Watch
    given = ("batch_size=64", "training_hyperparams.max_train_batches=16", "epochs=1", *BFLOAT16)
    for more in (("training_hyperparams=cosine_few_epochs",), ("dataset_params.train_dataset_params.cutout=8",)):
        train(*given, *more, "training_hyperparams.phase_callbacks=[Watch]", tiny=False)
    accuracy = Accuracy().cuda()
    accuracy.update(torch.randn(2, 3, device="cuda"), torch.tensor([0, -1], device="cuda"))
    with pytest.raises(ValueError, match="a label is -1"):
        accuracy.reset()


def test_the_course(train):
    """Its images are resized before they are moved there, where there is no antialiasing of uint8."""
    overrides = ("epochs=1", "++dataset_params.train_dataset_params.max_samples=512")
    check(*train(*overrides, recipe="course_fashion_mnist_14px", tiny=False))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_of_images(workers, train):
    folder = [f"dataset_params.train_dataset_params.root={noise_folder(2)}", "arch_params.num_classes=2"]
    small = ["epochs=1", "batch_size=2", "dataset_params.train_dataset_params.size=64", f"num_workers={workers}"]
    check(*train(*folder, *small, recipe="image_folder_resnet18", tiny=False))


def test_quantisation(quantise):
    result, run = quantise("epochs=1")
    assert (run / "qat.onnx").is_file() and next(result.quantized_model.parameters()).is_cuda


def test_one_process_of_ddp_with_nccl(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
    command += ["-m", "super_gradients.train_from_recipe", RECIPE, *SMALL_RUN, "epochs=1", f"ckpt_root_dir={tmp_path}"]
    done = subprocess.run([*command, "multi_gpu=DDP", "num_gpus=1"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len([*tmp_path.glob("*/RUN_*/ckpt_best.pth")]) == 1


def test_a_run_that_is_stopped_there_ends_as_one_that_was_not(train, host):
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class Stop(Callback):
        at = None

        def on_train_batch_end(self, context):
            if (context.epoch, context.batch_idx) == Stop.at:
                signal.raise_signal(signal.SIGTERM)

    CALLBACKS["Stop"] = Stop
    exact = (*SMALL_RUN, "epochs=2", "training_hyperparams.deterministic=True", "ema=True")
    watched = (*exact, "training_hyperparams.phase_callbacks=[TrainingCurves,Stop]")
    _, whole = train(*watched, "experiment_name=whole", tiny=False)
    Stop.at = (1, 1)
    with pytest.raises(SystemExit, match="143"):
        train(*watched, "experiment_name=cut", tiny=False)
    Stop.at = None
    _, cut = train(*watched, "experiment_name=cut", "resume=True", tiny=False)
    wanted, found = (read(run / "ckpt_latest.pth") for run in (whole, cut))
    for net in ("net", "ema_net"):
        assert all(torch.equal(found[net][key], value) for key, value in wanted[net].items())
