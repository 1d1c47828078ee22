"""Many processes are ended when one dies, by Ctrl-C, or before they start, with a line."""

import functools
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
import torch

from sg_resnets.utils.errors import SgResnetsError
from support import COMMAND, two_processes


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


@pytest.mark.slow
def test_torchrun_starts_the_processes_again_and_they_go_on(tmp_path):
    (tmp_path / "die.py").write_text(
        "import os, pathlib\n"
        "from super_gradients.common.registry.registry import register_callback\n"
        "from super_gradients.training.utils.callbacks import Callback\n"
        "@register_callback('Die')\n"
        "class Die(Callback):\n"
        "    def on_train_batch_end(self, context):\n"
        "        if context.epoch == 1 and os.environ['RANK'] == '1' and not pathlib.Path('died').exists():\n"
        "            pathlib.Path('died').touch()\n"
        "            os.kill(os.getpid(), 9)\n"
    )
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2", "-m"]
    die = ["plugins=[die]", "training_hyperparams.phase_callbacks=[Die]", "epochs=2", f"ckpt_root_dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, *torchrun, *COMMAND, *die], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0 and (tmp_path / "died").exists(), done.stderr[-3000:]
    (latest,) = tmp_path.glob("*/RUN_*/ckpt_latest.pth")  # one run, not two
    assert torch.load(latest, weights_only=True)["epoch"] == 2
