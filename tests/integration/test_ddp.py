"""Many processes on one machine (gloo), started by the recipe and by torchrun, are in step."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DistributedSampler

from sg_resnets.distillation import losses
from sg_resnets.runs.checkpoints import read
from sg_resnets.runs.curves import read_curves
from sg_resnets.runs.evaluate import evaluate_checkpoint
from support import COMMAND, ENVIRONMENT, SAME_WORK, two_processes


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


@pytest.mark.slow
@pytest.mark.parametrize("rolls_back", [False, True])
def test_weights_that_one_process_has_broken_end_both_or_send_both_back(rolls_back, tmp_path):
    (tmp_path / "broken.py").write_text(
        "import torch.distributed as dist\n"
        "from super_gradients.common.registry.registry import register_callback\n"
        "from super_gradients.training.utils.callbacks import Callback\n"
        "@register_callback('Break')\n"
        "class Break(Callback):\n"
        "    seen = 0\n"
        "    def on_train_batch_end(self, context):\n"
        "        Break.seen += 1\n"
        "        if Break.seen == 8 and dist.get_rank() == 1:\n"
        "            context.net.module.bn1.running_mean.fill_(float('nan'))\n"
    )
    rollback = ["training_hyperparams.on_divergence=rollback"] if rolls_back else []
    done, (run,) = two_processes(
        tmp_path, "recipe", "plugins=[broken]", "architecture=resnet20_cifar", "batch_size=16", "epochs=2",
        "training_hyperparams.phase_callbacks=[Break]", *rollback,
    )  # fmt: skip
    assert "weights of bn1 are NaN or infinite at step 8 of epoch 1" in done.stderr
    assert done.returncode == (0 if rolls_back else 1)
    if rolls_back:
        latest = read(run / "ckpt_latest.pth")
        assert latest["epoch"] == 2 and latest["progress"]["rollbacks"] == 1


def test_the_seed_says_in_which_order_two_processes_see_the_images(tmp_path):
    (tmp_path / "order.py").write_text(
        "import torch.distributed as dist\n"
        "from super_gradients.common.registry.registry import register_callback\n"
        "from super_gradients.training.utils.callbacks import Callback\n"
        "@register_callback('Order')\n"
        "class Order(Callback):\n"
        "    def on_train_batch_end(self, context):\n"
        "        print(list(context.train_loader.sampler), file=open(f'rank{dist.get_rank()}', 'a'))\n"
    )
    done, _ = two_processes(
        tmp_path, "recipe", "plugins=[order]", "training_hyperparams.phase_callbacks=[Order]", "epochs=2",
        "training_hyperparams.max_train_batches=1", "dataset_params.train_dataloader_params.shuffle=True",
        "training_hyperparams.seed=7",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in (0, 1):
        as_torch = DistributedSampler(range(256), num_replicas=2, rank=rank, seed=7)
        orders = [json.loads(line) for line in (tmp_path / f"rank{rank}").read_text().splitlines()]
        for epoch, order in enumerate(orders):
            as_torch.set_epoch(epoch)
            assert order == list(as_torch)
        assert len(orders) == 2


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


def _distil_in_two_processes(rank, port, folder):
    import os

    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    network, images, labels, loss = torch.load(Path(folder, "network.pt"), weights_only=False)
    parallel = DistributedDataParallel(network)
    half = slice(2 * rank, 2 * rank + 2)
    total, _ = loss(parallel(images[half]), labels[half])
    total.backward()
    buckets = sum(p.numel() for p in parallel.parameters())
    torch.save(({n: p.grad for n, p in network.named_parameters()}, buckets), Path(folder, f"{rank}.pt"))
    dist.destroy_process_group()


def test_two_processes_have_the_gradient_of_one(distiller, images, tmp_path):
    """With features and a regressor; in eval mode, as batch-norm sees the process' own images only."""
    import socket

    import torch.multiprocessing as mp

    network = distiller(taps={"student": "layer2", "teacher": "layer2", "regressor": True})
    network.fit_to(images)
    labels = torch.tensor([1, 3, 5, 7])
    loss = losses.DistillationLoss(torch.nn.CrossEntropyLoss(), "FitNet", weight=10.0)
    torch.save((network.eval(), images, labels, loss), tmp_path / "network.pt")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_distil_in_two_processes, (port, str(tmp_path)), nprocs=2)
    loss(network(images), labels)[0].backward()
    for rank in range(2):
        gradients, buckets = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert buckets == sum(p.numel() for p in network.parameters())
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-5, atol=1e-6)


BREAKS = """
import os
import torch
from torch import nn
from super_gradients.common.registry.registry import register_loss
@register_loss("Breaks")
class Breaks(nn.CrossEntropyLoss):
    seen = 0
    def forward(self, outputs, labels):
        loss = super().forward(outputs, labels)
        if torch.is_grad_enabled():
            Breaks.seen += 1
            if Breaks.seen == 6 and os.environ["RANK"] == "1":
                loss = loss * float("nan")
        return loss
"""


@pytest.mark.slow
def test_all_processes_go_back_together_when_one_of_them_diverges(tmp_path):
    (tmp_path / "breaks.py").write_text(BREAKS)
    asked = ["plugins=[breaks]", "training_hyperparams.loss=Breaks", "training_hyperparams.on_divergence=rollback"]
    done, runs = two_processes(tmp_path, "torchrun", *asked, "~training_hyperparams.criterion_params.smooth_eps")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "of the rate (1 of at most 3 rollbacks)" in done.stderr and len(runs) == 1
    latest = torch.load(runs[0] / "ckpt_latest.pth", weights_only=True)
    assert latest["epoch"] == 2 and latest["progress"]["rollbacks"] == 1


def test_two_processes_train_on_a_folder_and_one_reports_on_it(picture_folder, tmp_path):
    (picture_folder / "train" / "cat" / "damaged.png").write_bytes(b"x")
    data = "dataset_params.train_dataset_params"
    done = subprocess.run(
        [
            sys.executable, "-m", "super_gradients.train_from_recipe", "--config-name=image_folder_resnet18",
            f"{data}.root={picture_folder}", f"{data}.size=16", f"{data}.on_bad_image=skip", "epochs=1", "batch_size=2",
            "architecture=resnet20_cifar", "+arch_params.depth=8", "num_workers=0", "multi_gpu=DDP", "num_gpus=2",
            f"ckpt_root_dir={tmp_path}",
        ],
        cwd=tmp_path, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = tmp_path.glob("image_folder_*/RUN_*")
    assert (run / "report_val.html").is_file() and (run / ".hydra" / "finished").is_file()
    assert json.loads((run / "report_val.json").read_text())["images"] == 4
