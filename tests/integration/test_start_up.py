"""SuperGradients and we meet in fresh processes: quietly, in any order, and without harm to others."""

import platform

import pytest

from support import RECIPE

NO_NETWORK = """
import socket
def refuse(*args, **kwargs):
    raise AssertionError(f"looked up {args}")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
"""


def test_importing_the_host_is_quiet_stays_offline_and_leaves_the_home_folder_alone(run_python, tmp_path):
    code = NO_NETWORK + (
        "import sys; out, err = sys.stdout, sys.stderr\n"
        "import super_gradients\n"
        "assert (sys.stdout, sys.stderr) == (out, err)\n"
        "from super_gradients.training import models\n"
        "print(sum(p.numel() for p in models.get('resnet56_cifar', num_classes=100).parameters()))\n"
    )
    done = run_python("-c", code, cwd=tmp_path, HOME=str(tmp_path), USERPROFILE=str(tmp_path))
    assert (done.stdout, done.stderr) == ("858868\n", "")
    assert {p.name for p in tmp_path.iterdir()} <= {".cache", ".config"}  # matplotlib's


def test_the_hosts_console_log_is_there_for_who_asks_for_it(run_python, tmp_path):
    done = run_python(
        "-c", "import super_gradients; print('said')", cwd=tmp_path, SUPER_GRADIENTS_LOG_DIR=str(tmp_path / "logs")
    )
    assert done.returncode == 0 and "said" in (tmp_path / "logs" / "console.log").read_text()


@pytest.mark.parametrize("first", ["import sg_resnets, super_gradients", "import super_gradients, sg_resnets"])
def test_either_import_order_registers_the_models(run_python, tmp_path, first):
    code = (
        f"{first}; from super_gradients.training.models import get; print(get('plain20_cifar', num_classes=10).config)"
    )
    assert "shortcut='none'" in run_python("-c", code, cwd=tmp_path).stdout


def test_asking_where_the_host_is_does_not_use_up_the_repairs(run_python, tmp_path):
    code = "from importlib.util import find_spec as f; f('super_gradients'); import super_gradients as s; "
    code += "print(s._sg_resnets_active)"
    assert run_python("-c", code, cwd=tmp_path).stdout == "True\n"


def test_without_the_startup_file_the_hydra_plugin_activates(run_python, tmp_path):
    code = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != 'HostFinder']\n"
        "import super_gradients\n"
        "print(hasattr(super_gradients, '_sg_resnets_active'))\n"
        "from super_gradients.common.environment.cfg_utils import load_recipe\n"
        "super_gradients.init_trainer()\n"
        "recipe = load_recipe('fashion_mnist_mini_resnet20')\n"
        "print(recipe.architecture, hasattr(super_gradients, '_sg_resnets_active'))\n"
    )
    lines = run_python("-c", code, cwd=tmp_path, SUPER_GRADIENTS_LOG_DIR=str(tmp_path)).stdout.splitlines()
    assert lines[-1] == "resnet20_cifar True" and "False" in lines


def test_a_failure_of_ours_is_said_once_and_leaves_the_hosts_recipes_running(run_python, tmp_path):
    code = (
        "import sg_resnets.models.zoo; sg_resnets.models.zoo.ZOO = None\n"
        "import super_gradients\n"
        "from super_gradients.training import models\n"
        "from super_gradients.common.environment.cfg_utils import load_recipe\n"
        "super_gradients.init_trainer()\n"
        "print(load_recipe('cifar10_resnet').architecture, models.get('resnet18_cifar', num_classes=10) is not None)\n"
    )
    done = run_python("-c", code, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "resnet18_cifar True"
    assert done.stderr.count("sg-resnets: not active") == 1 and "sg-resnets doctor" in done.stderr


FIRST = """
import os, sys
import importlib
import matplotlib.pyplot, onnxsim, scipy.stats, seaborn, torchvision  # what takes long, once
for name in sys.argv[1:]:
    if not os.fork():
        ours = importlib.import_module(f"sg_resnets.{name}")
        from super_gradients.training import models
        assert ours is sys.modules[ours.__name__] and models.get("resnet20_cifar", num_classes=10)
        os._exit(0)
    assert os.wait()[1] == 0, name
"""


def test_a_module_of_ours_may_be_the_first_to_import_the_host(run_python, tmp_path):
    modules = ["host.callbacks", "distillation.losses", "host.registration", "host.trainer", "runs.build", "models"]
    done = run_python("-c", FIRST, *modules, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not active" not in done.stderr


STEPS = """
import resource, torch
from super_gradients import Trainer, init_trainer
from sg_resnets.host import trainer as training

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [torch.ones(2**24) for _ in range(4)]  # 256 MiB, freed at the end
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults()
training.keep_freed_memory()
faults()
print(given_back, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_a_step_gets_the_memory_that_the_last_one_freed(run_python, tmp_path):
    done = run_python("-c", STEPS, cwd=tmp_path)
    given_back, kept = map(int, done.stdout.split()[-2:])
    assert kept < given_back / 100, done.stderr


def test_help_option(run_python, tmp_path):
    """`--help` is Hydra's: it lists the groups and the recipe."""
    done = run_python("-m", "super_gradients.train_from_recipe", RECIPE, "--help", cwd=tmp_path)
    assert done.returncode == 0 and "architecture: resnet20_cifar" in done.stdout and "dataset_params: " in done.stdout
