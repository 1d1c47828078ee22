"""Recipes of the user's own, in a folder of theirs: written, trained, gone on with, and refused in a line."""

import re
import shlex
from pathlib import Path

import pytest

from support import SMALL_RUN

SMALL_NET = [
    *("architecture=resnet20_cifar", "+arch_params.depth=8", "+arch_params.widths=[4,4,4]"),
    *("checkpoint_params.pretrained_weights=null", "dataset_params.train_dataset_params.size=24"),
    *("batch_size=4", "num_workers=0", "epochs=1"),
]
ON_OURS = "defaults:\n  - fashion_mnist_mini_resnet20\n  - _self_\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, whose path has a blank and an accent."""
    folder = tmp_path / "Bilder für mich"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def answer(command, here):
    """answer(text of a recipe) -> the lines that `sg-resnets train` answers with, besides Hydra's own."""

    def run(text, *overrides):
        (here / "mine.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
        code, _, said = command("train", "mine.yaml", *overrides)
        assert code == 1
        hydras = ("Error executing job", "Set the environment variable HYDRA_FULL_ERROR")
        return [line for line in said.splitlines() if line and not line.startswith(hydras)]

    return run


def test_a_new_recipe_trains_by_the_commands_that_it_names(command, here, picture_folder, run_warm, sg_resnets_command):
    assert command("new", "pets")[:2] == (
        0,
        "pets.yaml: write dataset_params.train_dataset_params.root in the place of ???\nsg-resnets train pets.yaml\n",
    )
    text = Path("pets.yaml").read_text()
    Path("pets.yaml").write_text(text.replace("???  #", f"{picture_folder}  #"))
    ours = next(line for line in text.splitlines() if line.startswith("# Train it: ")).split(": ")[1]
    hosts = next(line for line in text.splitlines() if line.startswith("#   or: ")).split(": ")[1]
    for words, run in ((ours, sg_resnets_command), (hosts, run_warm)):
        done = run(*shlex.split(words)[1:], *SMALL_NET, cwd=here)
        assert done.returncode == 0, done.stderr[-500:]
    assert len([*here.glob("checkpoints/pets/RUN_*/ckpt_best.pth")]) == 2
    code, _, said = command("new", "pets.yaml")
    assert code == 1 and said == "sg-resnets: pets.yaml is there, and stays as it is: give another name"


def test_all_proposals_together_and_a_folder_of_pictures_of_the_same_name(command, here, sg_resnets_command):
    (here / "pets" / "cat").mkdir(parents=True)
    command("new", "pets")
    text = Path("pets.yaml").read_text()
    Path("pets.yaml").write_text(re.sub(r"(?m)^( +)# (\w+: )", r"\1\2", text))
    done = sg_resnets_command("train", "pets.yaml", "+debug=smoke", *SMALL_NET[:3], cwd=here)
    assert done.returncode == 0, done.stderr[-500:]
    assert [*here.glob("outputs/smoke/pets/RUN_*/ckpt_best.pth")]


@pytest.mark.parametrize(
    "args, words",
    [
        (["a.b"], "'a.b' is no name for a recipe: give letters, digits"),
        (["pets/"], "'pets/' is no name for a recipe"),
        ([".."], "'..' is no name for a recipe"),
        (["x" * 200], "is no name for a recipe"),
        (["none/pets"], "there is no folder none"),
        (["cifar10_resnet20"], "there is a recipe 'cifar10_resnet20' already"),
        (["imagenet_resnet50"], "there is a recipe 'imagenet_resnet50' already"),
        (["base"], "'base' is a folder of parts of recipes"),
        (["pets", "--from=cifar10_resnet"], "--from cifar10_resnet: did you mean cifar10_resnet20"),
    ],
)
def test_a_name_that_cannot_be_is_one_line(args, words, command, here):
    code, _, said = command("new", *args)
    assert code == 1 and words in said and "\n" not in said and not [*here.rglob("*.yaml")]


@pytest.mark.parametrize(
    "given, words",
    [
        (".", ". is a folder"),
        ("folder.yaml", "folder.yaml is a folder"),
        ("pet.yaml", "there is no file pet.yaml: did you mean pets.yaml?"),
        ("pets", "unknown recipe 'pets': a file is given with its ending, pets.yaml"),
        ("other.yml", "other.yml: a recipe's file must end in .yaml: rename it, other.yaml"),
    ],
)
def test_what_is_no_file_of_a_recipe_is_one_line(given, words, command, here):
    Path("folder.yaml").mkdir()
    Path("pets.yaml").write_text(ON_OURS)
    Path("other.yml").write_text(ON_OURS)
    code, _, said = command("train", given)
    assert code == 1 and said.startswith(f"sg-resnets: {words}") and "\n" not in said


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "the recipe has no dataset_params, experiment_name, training_hyperparams: begin it with"),
        ("pets\n", "the recipe has no dataset_params"),
        ("- a\n- b\n", "mine.yaml: must be keys and values, such as `epochs: 3`, and is a list"),
        (ON_OURS + "epochs: [1\nlr: 3\n", "mine.yaml, line 5, column 3: expected ',' or ']', but got ':'"),
        ("defaults:\n\t- x\n", "mine.yaml, line 2, column 1: found character '\\t' that cannot start any token; YAML"),
        (ON_OURS + "lr: 1\nlr: 2\n", "mine.yaml, line 5, column 1: found duplicate key lr"),
        (b"lr: caf\xe9\n", "mine.yaml: is not UTF-8 text (invalid continuation byte)"),
        ("lr: '\x07'\n", "mine.yaml cannot be read as YAML: unacceptable character"),
        ("defaults: x\n", "mine.yaml: Invalid defaults list in 'mine', defaults must be a list (got str); its"),
        ("defaults:\n  - 3\n", "mine.yaml: Unsupported type in defaults : int; its lines are such as"),
        ("defaults:\n  - mine\n", "recipe 'mine' stands on itself"),
        ("defaults:\n  - other2\n", "unknown recipe 'other2': did you mean other? valid: mine, other"),
        ("defaults:\n  - fashion_mnist_resnet2\n", "did you mean fashion_mnist_resnet20"),
        ("defaults:\n  - base: setup\n  - trainig_hyperparams: x\n", "unknown group 'trainig_hyperparams': did you"),
        ("defaults:\n  - dataset_param: my_data\n", "unknown group 'dataset_param': did you mean dataset_params?"),
        ("defaults:\n  - dataset_params: my_dat\n", "unknown dataset_params 'my_dat': did you mean my_data?"),
        ("defaults:\n  - dataset_params: old\n", "dataset_params/old.yml is not read: a file of a recipe must end in"),
        ("defaults:\n  - other\n  - override loss: x\n", "In 'mine': Could not override 'loss'. No match"),
        (ON_OURS + "lr: ${\n", "lr: no viable alternative at input '${'"),
        (ON_OURS + "experiment_name: ${nope}\n", "Interpolation key 'nope' not found"),
        (ON_OURS + "experiment_name: 2024\n", "experiment_name=2024: must be text: put it in quotes"),
        ("defaults:\n  - base: setup\n", "experiment_name is missing: add experiment_name=VALUE"),
        (ON_OURS + "training_hyperparams:\n", "training_hyperparams=None: leaves nothing there of what"),
        (ON_OURS + "dataset_params:\n  train_dataset_params:\n", "dataset_params.train_dataset_params=None: leaves"),
        (ON_OURS + "arch_params: 3\n", "arch_params=3: leaves nothing"),
        ("defaults:\n  - finetune_image_folder\n", "dataset_params.train_dataset_params.root is missing: add"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_recipe_is_one_line_that_says_where(text, words, answer, here):
    Path("other.yaml").write_text(ON_OURS)
    Path("dataset_params").mkdir()
    for name in ("my_data.yaml", "old.yml"):
        Path("dataset_params", name).write_text("train_dataset_params: {}\n")
    (line,) = answer(text)
    assert words in line


def test_help_of_a_wrong_recipe_is_one_line(run_warm, here):
    Path("mine.yaml").write_text("lr: [\n")
    done = run_warm(
        *("-m", "super_gradients.train_from_recipe", "--config-dir=.", "--config-name=mine", "--help"), cwd=here
    )
    assert done.returncode == 1 and done.stderr.startswith(f"{here}/mine.yaml, line 2, column 1: expected the node")
    assert done.stderr.count("\n") == 1


def test_files_of_ones_own_come_first_and_a_run_does_without_them(run_warm, sg_resnets_command, command, here):
    """A recipe of the name of one of ours, a schedule of the name of one, and data of a name of its own."""
    own = here / "mine" / "fashion_mnist_mini_resnet20.yaml"
    for group in ("training_hyperparams", "dataset_params"):
        (own.parent / group).mkdir(parents=True)
    groups = "  - override training_hyperparams: muon_few_epochs\n  - override dataset_params: little\n"
    own.write_text(
        f"defaults:\n  - fashion_mnist_resnet20\n{groups}  - _self_\nexperiment_name: own\n"
        "arch_params: {depth: 8, widths: [4, 8, 9]}\ntraining_hyperparams: {max_epochs: 1}\n"
    )
    schedule = "defaults:\n  - cosine_few_epochs\n  - _self_\ninitial_lr: 0.03125\n"
    (own.parent / "training_hyperparams" / "muon_few_epochs.yaml").write_text(schedule)
    data = "defaults:\n  - fashion_mnist_mini\n  - _self_\ntrain_dataset_params: {max_samples: 128}\n"
    (own.parent / "dataset_params" / "little.yaml").write_text(f"{data}val_dataset_params: {{max_samples: 100}}\n")
    (here / "link.yaml").symlink_to(own)

    done = sg_resnets_command("train", own.relative_to(here), cwd=here)
    assert done.returncode == 0, done.stderr[-500:]
    replaced = [line for line in done.stderr.splitlines() if "is read in the place of" in line]
    assert len(replaced) == 2 and all(str(own.parent) in line for line in replaced)
    (run,) = here.glob("checkpoints/own/RUN_*")
    recipe = (run / ".hydra" / "config.yaml").read_text()
    assert "initial_lr: 0.03125" in recipe and "max_samples: 128" in recipe and "optimizer: SGD" in recipe
    code, _, said = command("train", "link.yaml")  # groups are looked for beside the link
    assert code == 1 and "unknown dataset_params 'little'" in said

    own.parent.rename(here / "elsewhere")
    (here / "link.yaml").unlink()
    assert command("resume", run, "epochs=2")[0] == 0
    assert len((run / "curves.csv").read_text().splitlines()) == 3
    code, printed, _ = command("evaluate", run)
    assert code == 0 and "test Accuracy" in printed
    assert command("export", run, "mine.onnx")[0] == 0 and Path("mine.onnx").is_file()


def test_another_application_of_hydra_has_its_own_order(run_python, here):
    for folder, value in (("conf", 1), ("own", 2)):
        Path(folder).mkdir()
        Path(folder, "x.yaml").write_text(f"value: {value}\n")
    Path("app.py").write_text(
        "import hydra, super_gradients\n@hydra.main(config_path='conf', config_name='x', version_base='1.2')\n"
        "def main(cfg): print('value', cfg.value)\nmain()\n"
    )
    done = run_python("app.py", "--config-dir=own", cwd=here)
    assert done.stdout.splitlines()[-1] == "value 1", done.stderr[-500:]


def test_ours_by_the_name_and_ones_own_by_the_file(command, here, monkeypatch):
    from sg_resnets.runs.recipes import hydra_options

    Path("cifar10_fast.yaml").write_text(ON_OURS)
    assert hydra_options("cifar10_fast.yaml") == [f"--config-dir={here}", "--config-name=cifar10_fast"]
    assert hydra_options("cifar10_fast") == ["--config-name=cifar10_fast"]
    code, _, said = command("train", "cifar10_fast", "epochs=0")
    assert code == 1 and "cifar10_fast is a recipe of the package; for the file here write cifar10_fast.yaml" in said


@pytest.mark.parametrize(
    "base, files",
    [
        ("kd_fashion_mnist_mini_resnet56_to_resnet20", {"ckpt_best.pth"}),
        ("qat_fashion_mnist_mini_resnet20", {"fp32.onnx", "ptq.onnx", "qat.onnx"}),
    ],
)
def test_a_distillation_and_a_quantisation_of_ones_own_are_run_as_such(base, files, command, here, short_timings):
    assert command("new", "mine", "--from", base)[0] == 0
    small = [word.replace("arch_params", "student_arch_params") for word in SMALL_RUN[1:2]] if "kd_" in base else []
    code, _, said = command("train", "mine.yaml", "+debug=smoke", *small)
    assert code == 0, said[-500:]
    written = {path.name for path in here.glob("outputs/smoke/mine/RUN_*/*")}
    assert files <= written
    if "kd_" in base:
        import torch

        (best,) = here.glob("outputs/smoke/mine/RUN_*/ckpt_best.pth")
        assert torch.load(best)["recipe"]["teacher_architecture"] == "resnet56_cifar"
