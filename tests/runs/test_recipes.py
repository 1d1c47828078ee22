"""The recipes: short, honest, unlike SuperGradients' in name, and with the papers' numbers."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sg_resnets.runs.recipes import NOT_MEASURED, describe_result, our_recipes, read_results
from sg_resnets.utils.paths import recipes_path

NAMES = our_recipes()


HOSTS = Path(find_spec("super_gradients").origin).parent / "recipes"


# What a recipe leaves to the user (`???`).
FOLDER = "dataset_params.train_dataset_params.root=x"


GIVEN = {
    "finetune_image_folder": [FOLDER, "arch_params.num_classes=7"],
    "image_folder_resnet18": [FOLDER, "arch_params.num_classes=7"],
    "kd_image_folder": [FOLDER, "student_arch_params.num_classes=7", "teacher_checkpoint_params.checkpoint_path=x"],
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
