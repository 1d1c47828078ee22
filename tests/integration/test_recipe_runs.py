"""The recipes train, from weights and with blocks of a user too."""

import itertools
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from sg_resnets.runs.recipes import our_recipes
from support import ROOT

NAMES = our_recipes()


# What a recipe leaves to the user (`???`).
FOLDER = "dataset_params.train_dataset_params.root=x"


GIVEN = {
    "finetune_image_folder": [FOLDER, "arch_params.num_classes=7"],
    "image_folder_resnet18": [FOLDER, "arch_params.num_classes=7"],
    "kd_image_folder": [FOLDER, "student_arch_params.num_classes=7"],
    "qat_image_folder": [FOLDER, "arch_params.num_classes=7"],
    **{name: [FOLDER] for name in NAMES if "imagenet" in name},
}


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


@pytest.fixture
def example(tmp_path):
    """The example of a user's block of docs/models.md, as the module that it names; (code, command)."""
    text = (ROOT / "docs" / "models.md").read_text()
    section = text[text.index("## Your own block") :]
    code = section[section.index("```python\n") + 10 :]
    code = code[: code.index("```")]
    command = next(
        line.strip() for line in section.splitlines() if line.strip().startswith("python -m super_gradients")
    )
    (tmp_path / "my_blocks.py").write_text(code)
    return code, command


def test_the_documented_block_trains_from_yaml_and_its_checkpoint_asks_for_it(
    example, run_warm, sg_resnets_command, tmp_path
):
    code, command = example
    assert code.count("\n") <= 20
    small = ["epochs=1", "+arch_params.depth=8", "+dataset_params.train_dataset_params.max_samples=256"]
    done = run_warm(*shlex.split(command)[1:], *small, "ckpt_root_dir=.", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (best,) = tmp_path.glob("*/RUN_*/ckpt_best.pth")
    refused = sg_resnets_command("evaluate", best, cwd=tmp_path)
    assert refused.returncode == 1 and refused.stderr.strip().endswith("--plugin my_blocks")
    done = sg_resnets_command("evaluate", best, "--plugin", "my_blocks", cwd=tmp_path)
    assert done.returncode == 0 and "test Accuracy" in done.stdout
    done = sg_resnets_command("summary", "custom_resnet", "block=squared", "--plugin", "my_blocks", cwd=tmp_path)
    assert done.returncode == 0 and "layer3" in done.stdout


def test_a_recipe_starts_from_pretrained_weights(resnet18, train):
    network, run = train(
        "architecture=resnet18_v1b",
        "~arch_params.depth",
        "~arch_params.widths",
        "checkpoint_params.pretrained_weights=imagenet",
        "lr=0.0",
        "+training_hyperparams.max_train_batches=1",
        "training_hyperparams.lr_warmup_epochs=0",
    )
    assert torch.equal(network.layer1[0].conv1.weight, resnet18.layer1[0].conv1.weight)
    assert network.conv1.in_channels == 1 and network.fc.out_features == 10 and (run / "ckpt_best.pth").is_file()


@pytest.mark.parametrize("head_alone", [False, True])
def test_finetuning_on_a_folder_of_pictures(resnet18, host, compose, tmp_path, head_alone):
    from PIL import Image

    for split, kind in itertools.product(("train", "val"), ("cats", "dogs")):
        folder = tmp_path / "pictures" / split / kind
        folder.mkdir(parents=True)
        for i in range(8):
            pixels = np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    cfg = compose(
        f"dataset_params.train_dataset_params.root={tmp_path / 'pictures'}",
        "dataset_params.train_dataset_params.size=32",
        "arch_params.num_classes=2",
        f"training_hyperparams.finetune={head_alone}",
        f"ckpt_root_dir={tmp_path}",
        "epochs=2",
        "batch_size=8",
        "num_workers=0",
        recipe="finetune_image_folder",
        tiny=False,
    )
    network, _ = host.Trainer.train_from_config(cfg)
    assert torch.equal(network.layer1[0].conv1.weight.cpu(), resnet18.layer1[0].conv1.weight) == head_alone
    assert network.fc.out_features == 2
    seen = network.predict(np.zeros((40, 50, 3), np.uint8), fuse_model=False, fp16=False)
    assert seen.class_names == ["cats", "dogs"]


@pytest.mark.slow
def test_nothing_is_found_wrong_with_supergradients_own_recipes(compose, host):
    from importlib.util import find_spec

    from omegaconf import open_dict
    from omegaconf.errors import OmegaConfBaseException

    from sg_resnets.host.recipe_checks import mistakes_in

    folder = Path(find_spec("super_gradients").origin).with_name("recipes")
    seen, found = 0, {}
    for name in sorted(path.stem for path in folder.glob("*.yaml")):
        try:
            cfg = compose(recipe=name, tiny=False)
            with open_dict(cfg):
                found[name] = list(mistakes_in(cfg))
        except OmegaConfBaseException:  # it waits for a value
            continue
        seen += 1
    assert seen > 40 and not {name: said for name, said in found.items() if said}
