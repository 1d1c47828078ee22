"""A data folder that is lost, a disk that is full: a line, the last checkpoint whole, and the run goes on later."""

import shutil

import pytest

from sg_resnets.data.image_folder import noise_folder
from sg_resnets.runs.checkpoints import read
from support import RECIPE, differences, results


@pytest.fixture
def lose(host):
    """lose(folder): it is gone when the second epoch begins."""
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class Lose(Callback):
        folder = None

        def on_train_loader_start(self, context):
            if context.epoch == 1 and Lose.folder is not None:
                Lose.folder.rename(f"{Lose.folder}.lost")

    def which(folder):
        Lose.folder = folder

    CALLBACKS["Lose"] = Lose
    yield which
    del CALLBACKS["Lose"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_folder_that_is_lost_is_a_line_and_the_run_goes_on_when_it_is_back(workers, lose, train, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(noise_folder(2), data)
    given = [
        f"dataset_params.train_dataset_params.root={data}", "arch_params.num_classes=2", "batch_size=2", "epochs=3",
        "architecture=resnet20_cifar", "+arch_params.depth=8", "+arch_params.widths=[4,4,4]", f"num_workers={workers}",
        "dataset_params.train_dataset_params.size=32", "training_hyperparams.phase_callbacks=[TrainingCurves,Lose]",
    ]  # fmt: skip
    options = {"recipe": "image_folder_resnet18", "tiny": False}
    train(*given, f"ckpt_root_dir={tmp_path / 'whole'}", **options)
    lose(data)
    with pytest.raises(ValueError, match=rf"^no image at {data}/train/.*jpg$") as error:
        train(*given, f"ckpt_root_dir={tmp_path / 'parts'}", **options)
    assert "\n" not in str(error.value)
    lose(None)
    shutil.move(f"{data}.lost", data)
    train(*given, "resume=True", f"ckpt_root_dir={tmp_path / 'parts'}", **options)
    assert differences(results(tmp_path / "whole"), results(tmp_path / "parts")) == []


FULL = """
import resource, signal
from super_gradients.common.registry.registry import register_callback
from super_gradients.training.utils.callbacks import Callback
@register_callback("Full")
class Full(Callback):
    def on_train_loader_start(self, context):
        if context.epoch == 1:  # no file can be longer than that from now on
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
"""


def test_a_disk_that_is_full_ends_the_run_with_a_line_and_leaves_the_last_checkpoint_whole(run_warm, tmp_path):
    (tmp_path / "full.py").write_text(FULL)
    command = ["-m", "super_gradients.train_from_recipe", RECIPE, "epochs=3", "batch_size=64", "ckpt_root_dir=."]
    command += ["+dataset_params.train_dataset_params.max_samples=256"]  # and a net of a megabyte
    broken = ["plugins=[full]", "training_hyperparams.phase_callbacks=[TrainingCurves,Full]"]
    done = run_warm(*command, *broken, cwd=tmp_path)
    (run,) = tmp_path.glob("*/RUN_*")
    assert done.returncode == 1 and "is the disk full?" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert read(run / "ckpt_latest.pth")["epoch"] == 1 and not list(run.glob("*.tmp"))
