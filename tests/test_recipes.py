"""The recipes: short, honest, unlike the host's in name, and with the papers' numbers."""

import ast
import importlib
import json
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from sg_resnets.runs.recipes import NOT_MEASURED, describe_result, our_recipes, read_results
from sg_resnets.utils.paths import recipes_path

NAMES = our_recipes()
ROOT = Path(__file__).parents[1]
HOSTS = Path(find_spec("super_gradients").origin).parent / "recipes"
# What a recipe leaves to the user (`???`).
FOLDER = "dataset_params.train_dataset_params.root=x"
GIVEN = {
    "finetune_image_folder": [FOLDER, "arch_params.num_classes=7"],
    "image_folder_resnet18": [FOLDER, "arch_params.num_classes=7"],
    "qat_image_folder": [FOLDER, "arch_params.num_classes=7"],
    **{name: [FOLDER] for name in NAMES if "imagenet" in name},
}


def test_names_are_unique_against_the_hosts_which_would_silently_win():
    ours = {path.relative_to(recipes_path()) for path in recipes_path().rglob("*.yaml")}
    assert len(ours) > 10 and not [path for path in ours if (HOSTS / path).exists()]


@pytest.mark.parametrize("path", sorted(recipes_path().rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_is_two_files_deep_at_most_and_starts_with_what_it_is(path):
    """A recipe stands on base/ and on groups, a group on SuperGradients' defaults alone."""
    assert path.read_text().startswith("# ")
    defaults = OmegaConf.load(path).get("defaults") or []
    options = [
        entry if isinstance(entry, str) else next(iter(entry.items())) for entry in defaults if entry != "_self_"
    ]
    top = path.parent == recipes_path()
    for option in options:
        group, name = (None, option.lstrip("/")) if isinstance(option, str) else option
        if group is None:
            folder = recipes_path() if top else path.parent
            of_ours = (folder / f"{name}.yaml").exists()
            assert not of_ours or path.parent.name == "base", option
        elif not top:
            assert path.parent.name == "base"
    if top:
        assert defaults[0] == {"base": options[0][1]} and defaults[-1] == "_self_"


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_its_command_and_results_csv_what_it_reaches(name):
    header = [line for line in (recipes_path() / f"{name}.yaml").read_text().splitlines() if line.startswith("#")]
    assert any(f"--config-name={name}" in line for line in header)
    rows = [row for row in read_results() if row["recipe"] == name]
    assert rows
    for row in rows:
        assert NOT_MEASURED in describe_result(row) or (
            float(row["mean"]) and (row["seeds"] or row["note"]) and "cores" in row["hardware"]
        )
        assert all(part.isdigit() for part in row["seeds"].split())


def test_results_csv_speaks_of_recipes_that_there_are():
    assert {row["recipe"] for row in read_results()} == set(NAMES)
    row = {"metric": "test accuracy", "mean": "0.941", "std": "0.001", "seeds": "0 1 2", "minutes": "13.4"}
    assert describe_result({**row, "hardware": "2 CPU cores", "note": "with Muon"}) == (
        "test accuracy 0.941 +- 0.001 (3 seeds, 13.4 min, 2 CPU cores); with Muon"
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_composes_and_its_network_and_schedule_are_the_hosts_to_build(name, compose, tmp_path, host):
    from super_gradients.common.registry.registry import ALL_DATASETS, LR_SCHEDULERS_CLS_DICT, TORCH_LR_SCHEDULERS
    from super_gradients.training import models

    cfg = compose(*GIVEN.get(name, []), recipe=name, tiny=False)
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert plain["ckpt_root_dir"] == "./checkpoints"
    for role in ("student_", "teacher_") if "student_architecture" in cfg else ("",):
        arch_params = plain[f"{role}arch_params"]
        network = models.get(
            cfg[f"{role}architecture"], arch_params=arch_params, num_classes=arch_params["num_classes"]
        )
        assert network.fc.out_features == arch_params["num_classes"]
        assert cfg[f"{role}checkpoint_params"].strict_load.value is True
    for split in ("train", "val"):
        assert plain["dataset_params"][f"{split}_dataloader_params"]["dataset"] in ALL_DATASETS
    mode = plain["training_hyperparams"]["lr_mode"]
    assert mode in LR_SCHEDULERS_CLS_DICT if isinstance(mode, str) else set(mode) <= set(TORCH_LR_SCHEDULERS)


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_trains_two_steps_through_the_host(name, compose, tmp_path, host):
    """`+debug=smoke` is merged over the recipe as it is: the same networks, loss, optimiser, schedule and callbacks."""
    given = [word for word in GIVEN.get(name, []) if not word.startswith(FOLDER)]
    root = ["dataset_params.train_dataset_params.root=null"] if FOLDER in GIVEN.get(name, []) else []
    cfg = compose("+debug=smoke", f"ckpt_root_dir={tmp_path}", *root, *given, recipe=name, tiny=False)
    quantises = "quantization_params" in cfg
    (host.Trainer.quantize_from_config if quantises else host.Trainer.train_from_config)(cfg)
    (best,) = tmp_path.glob("*/RUN_*/ckpt_best.pth")
    state = torch.load(best)
    assert state["recipe"]["architecture"] == cfg.get("student_architecture", cfg.architecture)
    assert all(value.isfinite().all() for value in state["net"].values()) and (best.parent / "curves.png").is_file()


@pytest.mark.parametrize("name", ["cifar10_resnet20", "cifar100_resnet20"])
def test_cifar_has_the_schedule_of_he_et_al_2015_section_4_2(name, compose):
    cfg = compose(recipe=name, tiny=False)
    training, data = cfg.training_hyperparams, cfg.dataset_params
    assert training.initial_lr == 0.1 and training.optimizer == "SGD"
    assert training.optimizer_params == {"momentum": 0.9, "weight_decay": 1e-4}
    assert training.zero_weight_decay_on_bias_and_bn is False and not training.criterion_params
    assert training.lr_mode == {
        "MultiStepLR": {"milestones": [32000, 48000], "gamma": 0.1, "phase": "TRAIN_BATCH_STEP"}
    }
    iterations = -(-50_000 // data.train_dataloader_params.batch_size)
    assert data.train_dataloader_params.batch_size == 128 and not data.train_dataloader_params.drop_last
    assert 64_000 <= training.max_epochs * iterations < 64_000 + iterations
    assert (data.train_dataset_params.crop_padding, data.train_dataset_params.horizontal_flip) == (4, True)
    assert set(data.val_dataset_params) == {
        "root",
        "train",
        "data_on",
    }  # evaluated on the single view of the original image


def test_110_layers_warm_up_at_a_tenth_for_about_400_iterations(compose):
    cfg = compose(
        "architecture=resnet110_cifar",
        "training_hyperparams=he2015_cifar_warmup",
        recipe="cifar10_resnet20",
        tiny=False,
    )
    training = cfg.training_hyperparams
    assert (training.warmup_initial_lr, training.lr_warmup_epochs, training.initial_lr) == (0.01, 1, 0.1)
    assert [391 + step for step in training.lr_mode.MultiStepLR.milestones] == [32000, 48000]
    assert cfg.experiment_name == "cifar10_resnet110_cifar"


def test_fine_tuning_trains_the_head_alone_and_freezes_the_statistics_too(train):
    _, source = train()
    network, run = train(
        f"checkpoint_params.checkpoint_path={source / 'ckpt_best.pth'}",
        "training_hyperparams.finetune=True",
        "+arch_params.shortcut=A",
    )
    import torch

    before, after = torch.load(source / "ckpt_best.pth")["net"], torch.load(run / "ckpt_latest.pth")["net"]
    moved = [key for key in before if not torch.equal(before[key], after[key])]
    assert moved == ["fc.weight", "fc.bias"]
    assert network.config.shortcut == "A"


def test_transfer_to_other_classes_and_channels_through_the_hosts_factory(train, host):
    from super_gradients.training import models

    _, run = train()
    arch = {"in_channels": 1, "depth": 8, "widths": [4, 8, 16]}
    path = str(run / "ckpt_best.pth")
    network = models.get(
        "resnet20_cifar",
        arch_params=arch,
        num_classes=7,
        checkpoint_num_classes=10,
        checkpoint_path=path,
        num_input_channels=3,
    )
    assert network.fc.out_features == 7 and network.get_input_channels() == 3


def test_custom_resnet_builds_any_combination_from_arch_params(train):
    network, run = train(
        "architecture=custom_resnet",
        "++arch_params.depth=11",
        "+arch_params.block=bottleneck",
        "+arch_params.shortcut=D",
        "+arch_params.attention=se",
        "+arch_params.order=relu_before_addition",
        "+arch_params.zero_init_residual=True",
    )
    assert len(network.blocks()) == 3 and network.fc.in_features == 64 and (run / "ckpt_best.pth").is_file()
    assert network.layer1[0].se.fc1.out_channels == 8 and network.layer2[0].downsample[0].kernel_size == 2


def test_the_hosts_own_custom_resnet_is_still_there(host):
    from super_gradients.training import models
    from super_gradients.training.models.classification_models.resnet import CustomizedResnet

    network = models.get("custom_resnet", num_classes=5, arch_params={"structure": [1, 1, 1, 1], "width_mult": 0.25})
    assert isinstance(network, CustomizedResnet)


@pytest.fixture
def example(tmp_path):
    """The README's example of a user's block, as the module that the README names; (code, command)."""
    text = (ROOT / "README.md").read_text()
    section = text[text.index("### Your own block") :]
    code = section[section.index("```python\n") + 10 :]
    code = code[: code.index("```")]
    command = next(
        line.strip() for line in section.splitlines() if line.strip().startswith("python -m super_gradients")
    )
    (tmp_path / "my_blocks.py").write_text(code)
    return code, command


def test_the_readmes_block_trains_from_yaml_and_its_checkpoint_asks_for_it(
    example, run_python, sg_resnets_command, tmp_path
):
    code, command = example
    assert code.count("\n") <= 20
    small = ["epochs=1", "+arch_params.depth=8", "+dataset_params.train_dataset_params.max_samples=256"]
    done = run_python(*shlex.split(command)[1:], *small, "ckpt_root_dir=.", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (best,) = tmp_path.glob("*/RUN_*/ckpt_best.pth")
    refused = sg_resnets_command("evaluate", best, cwd=tmp_path)
    assert refused.returncode == 1 and refused.stderr.strip().endswith("--plugin my_blocks")
    done = sg_resnets_command("evaluate", best, "--plugin", "my_blocks", cwd=tmp_path)
    assert done.returncode == 0 and "test Accuracy" in done.stdout
    done = sg_resnets_command("summary", "custom_resnet", "block=squared", "--plugin", "my_blocks", cwd=tmp_path)
    assert done.returncode == 0 and "layer3" in done.stdout


def test_a_checkpoint_runs_no_module_unasked(train, host, tmp_path, monkeypatch):
    """A checkpoint is data: the modules that its recipe names are not imported because it names them."""
    import torch

    from sg_resnets.runs.evaluate import evaluate_checkpoint
    from sg_resnets.runs.predict import predict_images
    from sg_resnets.utils.errors import SgResnetsError

    monkeypatch.chdir(tmp_path)
    Path("theirs.py").write_text("raise SystemExit('ran')")
    _, run = train()
    state = torch.load(run / "ckpt_best.pth")
    torch.save({**state, "recipe": {**state["recipe"], "plugins": ["theirs"]}}, "sent.pth")
    for use in (evaluate_checkpoint, lambda path, plugins: predict_images(path, [], plugins)):
        with pytest.raises(SgResnetsError, match="not imported unasked: add --plugin theirs"):
            list(use(Path("sent.pth"), []))


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


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_imports_what_there_is(notebook, host):
    """They are run by `make notebooks` alone, which takes half an hour."""
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    code = ["".join(line for line in cell["source"] if not line.startswith(("!", "%"))) for cell in cells]
    nodes = [node for text in code for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in nodes if node.module.startswith("sg_resnets")]
    assert ours
    for node in ours:
        module = importlib.import_module(node.module)
        assert [name.name for name in node.names if not hasattr(module, name.name)] == []
