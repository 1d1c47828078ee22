"""Many processes on one machine (gloo), started by the recipe and by torchrun: in step, and ended when one dies."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from sg_resnets.host.repairs.distributed import show_each_once
from sg_resnets.runs.checkpoints import read
from sg_resnets.runs.curves import read_curves
from sg_resnets.runs.evaluate import evaluate_checkpoint
from sg_resnets.utils.errors import SgResnetsError

# Fixup has no batch-norm, which would see its own process' images only; in order, and without augmentation, one batch
# of 64 is two of 32.
SAME_WORK = [
    "epochs=2", "lr=0.05", "architecture=fixup_resnet56_cifar", "+arch_params.depth=8", "+arch_params.widths=[4,8,16]",
    "training_hyperparams.mixed_precision=False", "dataset_params.train_dataloader_params.shuffle=False",
    "dataset_params.train_dataset_params.horizontal_flip=False", "training_hyperparams.lr_warmup_epochs=0",
    "+dataset_params.train_dataset_params.max_samples=256", "+dataset_params.val_dataset_params.max_samples=101",
]  # fmt: skip
COMMAND = ["super_gradients.train_from_recipe", "--config-name=fashion_mnist_mini_resnet20", *SAME_WORK]


def two_processes(folder, launcher, *overrides):
    """The finished command and the run's folder."""
    starts = {"recipe": ["-m"], "torchrun": ["-m", "torch.distributed.run", "--nproc-per-node=2", "-m"]}
    split = ["batch_size=32", f"ckpt_root_dir={folder}", *(["multi_gpu=DDP", "num_gpus=2"] * (launcher == "recipe"))]
    done = subprocess.run(
        [sys.executable, *starts[launcher], *COMMAND, *split, *overrides],
        capture_output=True, text=True, timeout=300, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return done, sorted(folder.glob("*/RUN_*"))


@pytest.mark.parametrize("launcher", ["recipe", "torchrun"])
def test_two_processes_learn_what_one_does_with_the_same_batches(launcher, tmp_path, train):
    _, alone = train(*SAME_WORK, "batch_size=64", f"ckpt_root_dir={tmp_path / 'alone'}", tiny=False)
    (tmp_path / "both").mkdir()
    done, runs = two_processes(tmp_path / "both", launcher)
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = runs  # written by one of them
    ours, theirs = (read(folder / "ckpt_latest.pth") for folder in (run, alone))
    assert ours["epoch"] == theirs["epoch"] == 2
    for key, value in theirs["net"].items():
        torch.testing.assert_close(ours["net"][key], value, rtol=1e-4, atol=1e-5)
    # 101 images do not divide by two: each is seen once all the same.
    for one, two in zip(read_curves(run / "curves.csv"), read_curves(alone / "curves.csv"), strict=True):
        assert one.test_accuracy == pytest.approx(two.test_accuracy, abs=1e-6)
        assert one.train_loss == pytest.approx(two.train_loss, rel=1e-3)


@pytest.mark.parametrize("ema", [False, True])
def test_the_accuracy_in_the_curves_is_that_of_the_saved_network(ema, tmp_path):
    """Each process has batch-norm statistics of its own images; with those, 2 to 5 of 2,000 were told otherwise."""
    learning = [
        "architecture=resnet20_cifar", "batch_size=16", "lr=0.1", f"ema={ema}",
        "training_hyperparams.ema_params={decay: 0.9, decay_type: constant}",
        "++dataset_params.train_dataset_params.max_samples=1024",
        "++dataset_params.val_dataset_params.max_samples=2000",
    ]  # fmt: skip
    done, (run,) = two_processes(tmp_path, "recipe", *learning)
    assert done.returncode == 0, done.stderr[-3000:]
    accuracy = read_curves(run / "curves.csv")[-1].test_accuracy
    assert dict(evaluate_checkpoint(run / "ckpt_latest.pth", []))["test Accuracy"] == f"{accuracy:.4f}"


def test_two_processes_share_an_epoch_of_repeated_augmentation(tmp_path):
    """As long as any other epoch, each image twice and augmented in two ways, other images in every epoch."""
    (tmp_path / "seen.py").write_text(
        "import json, torch.distributed as dist\n"
        "from super_gradients.common.registry.registry import register_callback\n"
        "from super_gradients.training.utils.callbacks import Callback\n"
        "@register_callback('Seen')\n"
        "class Seen(Callback):\n"
        "    def on_train_batch_end(self, context):\n"
        "        loader, left = context.train_loader, context.inputs[..., :9]\n"
        "        epoch = list(loader.sampler), len(loader), float(left.sum())\n"
        "        print(json.dumps(epoch), file=open(f'rank{dist.get_rank()}', 'a'))\n"
    )
    done, _ = two_processes(
        tmp_path, "recipe", "plugins=[seen]", "training_hyperparams.phase_callbacks=[Seen]", "epochs=12",
        "training_hyperparams.max_train_batches=1", "dataset_params.train_dataset_params.horizontal_flip=True",
        "++dataset_params.train_dataset_params.max_samples=1024", "dataset_params.train_dataloader_params.shuffle=True",
        "+dataset_params.train_dataloader_params.sampler.RepeatAugSampler.num_repeats=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [[json.loads(line) for line in (tmp_path / f"rank{rank}").read_text().splitlines()] for rank in (0, 1)]
    for (ours, batches, left), (others, _, others_left) in zip(*ranks, strict=True):
        assert batches == 16 and ours == others and len(set(ours)) == 512 and left != others_left
    assert len({image for epoch in ranks[0] for image in epoch[0]}) == 1024


def test_each_job_of_a_sweep_trains_in_two_processes(tmp_path):
    done, runs = two_processes(tmp_path, "recipe", "lr=0.05,0.01", "epochs=1", "-m")
    assert done.returncode == 0, done.stderr[-3000:]
    recipes = [read(run / "ckpt_latest.pth")["recipe"] for run in runs]
    assert [recipe["training_hyperparams"]["initial_lr"] for recipe in recipes] == [0.05, 0.01]
    assert sorted(path.name for path in tmp_path.glob("*/sweep_*/*/")) == ["0", "1"]


def test_the_seed_says_in_which_order_two_processes_see_the_images(tmp_path):
    (tmp_path / "order.py").write_text(
        "import torch.distributed as dist\n"
        "from super_gradients.common.registry.registry import register_callback\n"
        "from super_gradients.training.utils.callbacks import Callback\n"
        "@register_callback('Order')\n"
        "class Order(Callback):\n"
        "    def on_train_batch_end(self, context):\n"
        "        print(list(context.train_loader.sampler)[:8], file=open(f'rank{dist.get_rank()}', 'a'))\n"
    )
    for seed in (1, 2, 1):
        done, _ = two_processes(
            tmp_path, "recipe", "plugins=[order]", "training_hyperparams.phase_callbacks=[Order]", "epochs=1",
            "training_hyperparams.max_train_batches=1", "dataset_params.train_dataloader_params.shuffle=True",
            f"training_hyperparams.seed={seed}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    for rank in (0, 1):
        first, second, again = (tmp_path / f"rank{rank}").read_text().splitlines()
        assert first == again != second


def test_two_nodes_train_as_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={node}", "--nproc-per-node=1",
             "--master-addr=127.0.0.1", f"--master-port={port}", "-m", *COMMAND, "epochs=1", "batch_size=32",
             f"ckpt_root_dir={tmp_path}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for node in (0, 1)
    ]  # fmt: skip
    said = [node.communicate(timeout=200)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert len(list(tmp_path.glob("*/RUN_*/ckpt_latest.pth"))) == 1


def test_ctrl_c_stops_two_processes_with_a_line(tmp_path):
    # A shell that runs the suite in its background has children ignore SIGINT; a user's terminal does not.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    started = subprocess.Popen(
        [sys.executable, "-m", *COMMAND, "epochs=2000", "batch_size=32", f"ckpt_root_dir={tmp_path}", "multi_gpu=DDP",
         "num_gpus=2"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=tmp_path, preexec_fn=listen,
        start_new_session=True,
    )  # fmt: skip
    try:
        while not list(tmp_path.glob("*/RUN_*/ckpt_latest.pth")):
            assert started.poll() is None, started.stderr.read()
            time.sleep(0.2)
        os.killpg(started.pid, signal.SIGINT)
        _, printed = started.communicate(timeout=60)
        assert started.returncode == 130 and "Stopped; what was saved is in the run's folder" in printed
        assert "Traceback" not in printed, printed[-2000:]
    finally:
        started.kill()


@pytest.mark.parametrize("number", ["two", 0, 1.5, -2])
def test_a_wrong_number_of_processes_is_one_line(number, train):
    with pytest.raises(SgResnetsError, match=rf"^num_gpus={number}: must be an integer >= 1, or -1 for all$"):
        train("multi_gpu=DDP", f"num_gpus={number}")


def test_a_dead_process_ends_the_run_with_a_line(tmp_path):
    started = subprocess.Popen(
        [sys.executable, "-m", *COMMAND, "epochs=2000", "batch_size=32", f"ckpt_root_dir={tmp_path}", "multi_gpu=DDP",
         "num_gpus=2"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    try:
        while not list(tmp_path.glob("*/RUN_*/ckpt_latest.pth")):
            assert started.poll() is None, started.stderr.read()
            time.sleep(0.2)
        workers = [child for child in psutil.Process(started.pid).children() if "RANK" in child.environ()]
        victim = next(worker for worker in workers if worker.environ()["RANK"] == "1")
        victim.kill()
        began = time.monotonic()
        _, printed = started.communicate(timeout=60)
        assert time.monotonic() - began < 60 and started.returncode == 1
        assert "Process 1 of 2 ended with signal 9; the others were stopped." in printed
        assert "Traceback" not in printed.split("Process 1 of 2")[1]
    finally:
        started.kill()


def test_more_processes_than_there_is_room_for_is_one_line(tmp_path):
    done, runs = two_processes(tmp_path, "recipe", "num_gpus=999")
    assert done.returncode == 1 and not runs and "Traceback" not in done.stderr
    assert "num_gpus=999 processes, but there is no GPU" in done.stderr or "num_gpus=999, but there are" in done.stderr


def test_evaluation_shows_each_sample_once():
    data = TensorDataset(torch.arange(11))
    seen = []
    for rank in range(3):
        sampler = DistributedSampler(data, num_replicas=3, rank=rank, shuffle=False)
        loader = DataLoader(data, batch_size=2, sampler=sampler)
        show_each_once(loader)
        assert len(loader) == 2
        seen += [int(i) for (batch,) in loader for i in batch]
    assert sorted(seen) == list(range(11))


def test_a_port_in_use_is_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        done = subprocess.run(
            [sys.executable, "-m", *COMMAND, f"ckpt_root_dir={tmp_path}"],
            capture_output=True, text=True, timeout=120, cwd=tmp_path, env={**os.environ, **place},
        )  # fmt: skip
    assert done.returncode == 1 and f"port {port} is in use" in done.stderr and "Traceback" not in done.stderr
