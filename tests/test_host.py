"""How the host and our plugin meet: quietly, in any order, and without harm to others."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

RECIPE = "--config-name=fashion_mnist_mini_resnet20"
TINY = [
    "batch_size=64",
    "+arch_params.depth=8",
    "+arch_params.widths=[4,8,16]",
    "+dataset_params.train_dataset_params.max_samples=256",
    "+dataset_params.val_dataset_params.max_samples=100",
]
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


def test_importing_sg_resnets_is_light(run_python, tmp_path):
    code = "import sys, sg_resnets; print([m for m in ('torch', 'hydra', 'super_gradients') if m in sys.modules])"
    assert run_python("-c", code, cwd=tmp_path).stdout == "[]\n"


def test_a_foreign_hydra_application_imports_neither_the_host_nor_torch(run_python, tmp_path):
    (tmp_path / "app.py").write_text(
        "import sys, hydra\n"
        "@hydra.main(version_base='1.3', config_path=None)\n"
        "def main(cfg):\n"
        "    from hydra.core.hydra_config import HydraConfig\n"
        "    sources = [s.provider for s in HydraConfig.get().runtime.config_sources]\n"
        "    print(sources, [m for m in ('super_gradients', 'torch') if m in sys.modules])\n"
        "main()\n"
    )
    assert run_python("app.py", cwd=tmp_path).stdout == "['hydra', 'schema'] []\n"


def test_a_half_imported_host_is_left_alone(monkeypatch):
    from types import ModuleType

    from hydra._internal.config_search_path_impl import ConfigSearchPathImpl

    from hydra_plugins.sg_resnets_searchpath import SgResnetsSearchPath
    from sg_resnets.host import activation as host

    monkeypatch.setitem(sys.modules, "super_gradients", ModuleType("super_gradients"))  # as in its __init__: no __all__
    monkeypatch.setattr(host, "activate", lambda: pytest.fail("activated in a half-imported host"))
    path = ConfigSearchPathImpl()
    SgResnetsSearchPath().manipulate_search_path(path)
    assert [element.provider for element in path.get_path()] == ["sg-resnets"]


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


@pytest.mark.parametrize(
    "module", ["host.callbacks", "distillation.losses", "host.registration", "host.trainer", "runs.build", "models"]
)
def test_a_module_of_ours_may_be_the_first_to_import_the_host(run_python, tmp_path, module):
    code = (
        f"import sys, sg_resnets.{module} as ours\n"
        "assert ours is sys.modules[ours.__name__]\n"
        "from super_gradients.training import models\n"
        "models.get('resnet20_cifar', num_classes=10)\n"
    )
    done = run_python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not active" not in done.stderr


def test_the_hosts_entry_point_trains_our_recipe_and_says_no_false_word(run_python, tmp_path):
    command = [
        "-m",
        "super_gradients.train_from_recipe",
        RECIPE,
        *TINY,
        "epochs=2",
        "architecture=plain20_cifar",
        "lr=0.05",
    ]
    done = run_python(*command, cwd=tmp_path, HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "checkpoints" / "fashion_mnist_mini_plain20_cifar").glob("RUN_*")
    for file in ("ckpt_best.pth", "ckpt_latest.pth", "curves.csv", "curves.png", ".hydra/config.yaml"):
        assert (run / file).is_file(), file
    assert (run / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "SUMMARY OF EPOCH 1" in done.stdout and "console stream" not in done.stdout
    warnings = [line for line in done.stderr.splitlines() if "WARN" in line.upper()]
    assert all("CUDA device is not available" in line for line in warnings), warnings
    assert not (tmp_path / "home" / "sg_logs").exists()


def test_help_option(run_python, tmp_path):
    """`--help` is Hydra's: it lists the groups and the recipe."""
    done = run_python("-m", "super_gradients.train_from_recipe", RECIPE, "--help", cwd=tmp_path)
    assert done.returncode == 0 and "architecture: resnet20_cifar" in done.stdout and "dataset_params: " in done.stdout


def test_a_sweep_runs_each_job_with_its_own_shortcuts(run_python, tmp_path):
    command = ["-m", "super_gradients.train_from_recipe", "-m", RECIPE, *TINY, "epochs=1", "lr=0.1,0.01"]
    done = run_python(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    recipes = sorted((tmp_path / "checkpoints" / "fashion_mnist_mini_resnet20_cifar").glob("RUN_*/.hydra/config.yaml"))
    rates = [
        next(line for line in path.read_text().splitlines() if line.strip().startswith("initial_lr"))
        for path in recipes
    ]
    assert [rate.split()[-1] for rate in rates] == ["0.1", "0.01"]


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
        ([RECIPE, "training_hyperparams.metric_to_watch=nope", *TINY], ["metric_to_watch=nope", "Accuracy"]),
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    root = Path(__file__).parents[1]
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(root)]
    subprocess.run(build, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_alone_trains_a_recipe_from_another_folder(wheel, tmp_path, run_python):
    """An environment that has our dependencies but not our source tree."""
    import sysconfig
    import venv

    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = tmp_path / "env" / ("Lib/site-packages" if sys.platform == "win32" else f"lib/{version}/site-packages")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    # Everything else from here; as a plain path, so that this environment's own .pth files are not read.
    (site / "zz_dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    where = "import sg_resnets; print(sg_resnets.__file__)"
    assert str(site) in subprocess.run([python, "-c", where], cwd=tmp_path, capture_output=True, text=True).stdout
    command = [python, "-m", "super_gradients.train_from_recipe", RECIPE, *TINY, "epochs=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("checkpoints/*/RUN_*/ckpt_best.pth"))


def test_a_loss_that_is_no_number_ends_training_with_step_layer_and_the_last_good_checkpoint(train, tmp_path):
    """A rate of 1e12 breaks the second step; then weights that break in layer2.0 alone, in the second epoch."""
    with pytest.raises(ValueError, match=r"the loss is (nan|inf) at step \d of epoch 1, first in .*nothing was saved"):
        train("lr=1e12", "training_hyperparams.lr_warmup_epochs=0")

    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class Break(Callback):
        def on_train_batch_start(self, context):
            if context.epoch == 1 and context.batch_idx == 2:
                context.net.layer2[0].conv1.weight.data.fill_(float("inf"))

    CALLBACKS["Break"] = Break
    with pytest.raises(ValueError, match=r"at step 3 of epoch 2, first in layer2\.0\.conv1.*ckpt_latest") as caught:
        train("epochs=3", "training_hyperparams.phase_callbacks=[Break]")
    assert "\n" not in str(caught.value)
    (latest,) = tmp_path.glob("*/RUN_*/ckpt_latest.pth")
    state = torch.load(latest)
    assert state["epoch"] == 1 and all(value.isfinite().all() for value in state["net"].values())


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


def test_a_sweep_runs_several_settings_at_a_time(run_python, tmp_path):
    command = ["-m", "super_gradients.train_from_recipe", "-m", RECIPE, "+debug=smoke", "training_hyperparams.seed=1,2"]
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", f"ckpt_root_dir={tmp_path}"]
    done = run_python(*command, *launcher, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    seeds = {
        torch.load(best)["recipe"]["training_hyperparams"]["seed"] for best in tmp_path.glob("*/RUN_*/ckpt_best.pth")
    }
    assert seeds == {1, 2}


def test_an_error_of_a_users_own_code_in_training_keeps_its_traceback(train, host):
    """Hydra would show the bare message of a mistake in the recipe; this is none."""
    from hydra.errors import CompactHydraException
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class Fails(Callback):
        def on_train_batch_end(self, context):
            raise ValueError("boom")

    CALLBACKS["Fails"] = Fails
    with pytest.raises(ValueError, match=r"^boom$") as caught:
        train("training_hyperparams.phase_callbacks=[Fails]")
    assert not isinstance(caught.value, CompactHydraException)
