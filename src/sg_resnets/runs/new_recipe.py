"""A recipe of the user's own, to begin with: a short YAML file that stands on one of ours, and names what one changes
first. Neither torch nor SuperGradients is imported for it."""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import OmegaConf

from sg_resnets.runs.recipes import is_quantization, known_groups, known_recipes, our_recipes, recipe_folders
from sg_resnets.utils.errors import SgResnetsError, choices
from sg_resnets.utils.files import check_parent, write_bytes

BLANK = "???"  # what the user has to write: OmegaConf's sign of a missing value
IN_MEMORY = {  # augmentation of the data sets that are in memory
    "horizontal_flip": "True: half of the pictures are mirrored",
    "crop_padding": "so many pixels are added on each side before a random crop",
    "cutout": "the side of the square that is blanked, in pixels",
}

HEADER = """\
# A recipe of your own, on top of {base}: what it does not say is as it is there.
# {first}
# Try it out, with two steps on noise: sg-resnets train {file} +debug=smoke
# Train it: sg-resnets train {file}
#   or: python -m super_gradients.train_from_recipe --config-dir={folder} --config-name={name}
# A line such as `# key: value` is a proposal: it counts without the "# ". More: docs/recipes.md
defaults:
  - {base}
  - _self_  # what stands below wins
"""


@dataclass(frozen=True)
class Line:
    """A key of the file, its value as YAML, and what is said of it; a proposal stands behind a #."""

    key: str
    value: str
    comment: str
    proposed: bool = False


def write_recipe(path: str, base: str) -> tuple[Path, list[str]]:
    """Write a recipe on top of `base` into a new file, `path` with the ending .yaml; return the file, and the keys that
    the user has to fill in.

    Raises:
        SgResnetsError: the name cannot be that of a recipe, the file is there or cannot be written, or `base` is none
            of our recipes.
    """
    file = file_of(path)
    if base not in our_recipes():
        raise SgResnetsError(f"--from {base}: {choices(base, our_recipes())}")
    lines = [Line("experiment_name", as_yaml(file.stem), "its runs go to ckpt_root_dir/experiment_name/RUN_<time>")]
    lines += lines_for(composed(base))
    blanks = [line.key for line in lines if line.value == BLANK]
    header = HEADER.format(
        base=base,
        first=f"Write in the place of ???: {', '.join(blanks)}" if blanks else "It can be trained as it is.",
        file=shlex.quote(str(file)),
        folder=shlex.quote(str(file.parent)),
        name=file.stem,
    )
    write_bytes(file, "\n".join([header, *written(lines), ""]).encode())
    return file, blanks


def file_of(path: str) -> Path:
    """Return the file that is to be written.

    Raises:
        SgResnetsError: see `write_recipe`.
    """
    file = Path(f"{path.removesuffix('.yaml')}.yaml").expanduser()
    name = file.stem
    if path.endswith("/") or not re.fullmatch(r"\w[\w-]{0,99}", name):
        raise SgResnetsError(
            f"'{path}' is no name for a recipe: give letters, digits, _ and -, up to 100, such as pets"
        )
    if name in known_recipes():
        raise SgResnetsError(f"there is a recipe '{name}' already: give yours another name, such as my_{name}")
    if name in known_groups():
        raise SgResnetsError(f"'{name}' is a folder of parts of recipes: give another name, such as my_{name}")
    if file.exists() or file.is_symlink():
        raise SgResnetsError(f"{file} is there, and stays as it is: give another name")
    check_parent(file)
    return file


def composed(name: str, folder: Path | None = None) -> Any:
    """Return a recipe as SuperGradients' entry points see it: one of ours, or one in a folder of the user's own.

    Raises:
        ModuleNotFoundError: SuperGradients is not installed.
    """
    ours, *others = recipe_folders()
    if not others:
        raise ModuleNotFoundError("no SuperGradients", name="super_gradients")
    if folder:
        ours, others = folder.absolute(), [ours, *others]
    paths = [QuotedString(f"file://{other}", Quote.double).with_quotes() for other in others]
    with initialize_config_dir(str(ours), version_base="1.2"):
        return compose(name, [f"hydra.searchpath=[{','.join(paths)}]"])


def lines_for(recipe: Any) -> Iterator[Line]:
    """Yield what one changes first of a recipe: the lines with its own values, and proposals."""

    def own(key: str, comment: str) -> Line:
        return Line(key, as_yaml(OmegaConf.select(recipe, key)), comment)

    yield own("ckpt_root_dir", "in the folder that you start from")
    yield from lines_on_networks(recipe, own)
    yield from lines_on_data(recipe.dataset_params)
    yield own("training_hyperparams.max_epochs", "how often all pictures are seen")
    yield own("training_hyperparams.initial_lr", "the highest learning rate")
    if recipe.training_hyperparams.loss == "CrossEntropyLoss":
        yield Line("training_hyperparams.criterion_params", "{weight: balanced}", "rare classes weigh more", True)
    if not is_quantization(recipe) and OmegaConf.select(recipe, "checkpoint_params.pretrained_weights"):
        comment = "with few pictures: the last layer alone learns, at initial_lr: 0.1"
        yield Line("training_hyperparams.finetune", "True", comment, True)


def lines_on_networks(recipe: Any, own: Callable[[str, str], Line]) -> Iterator[Line]:
    """Yield them of the network, and of the weights that it or its teacher starts from."""
    names, weights = "`sg-resnets models` lists all", "`sg-resnets summary NAME` lists what there is for a network"
    distils = "teacher_architecture" in recipe
    who = "teacher_" if distils else ""
    if distils:
        yield own("student_architecture", f"the network that is trained; {names}")
        yield own("teacher_architecture", "the network that it learns from")
    else:
        yield own("architecture", names)
    if recipe[f"{who}checkpoint_params"].get("pretrained_weights"):
        yield own(f"{who}checkpoint_params.pretrained_weights", weights)
    elif distils or is_quantization(recipe):
        what = "the teacher's" if distils else "of the network that becomes INT8: the"
        yield Line(f"{who}checkpoint_params.checkpoint_path", BLANK, f"{what} run or checkpoint")


def lines_on_data(params: Any) -> Iterator[Line]:
    """Yield them of `dataset_params`."""
    train, key = params.train_dataset_params, "dataset_params.train_dataset_params."
    if OmegaConf.is_missing(train, "root"):
        yield Line(f"{key}root", BLANK, "your pictures: a folder with a folder for each class; more in docs/data.md")
        if "val_fraction" in train:
            yield Line(f"{key}val_fraction", "0.1", "of each class, for validation, if there is no folder val", True)
            yield Line(f"{key}fit", "pad", "the whole picture is seen, not a part", True)
        if not train.get("augment"):
            yield Line(f"{key}augment", "trivial", "colours and shapes change at random", True)
        yield Line(f"{key}horizontal_flip", "False", "no picture is mirrored, where half of them are", True)
    for name, comment in IN_MEMORY.items():
        if name in train:
            yield Line(key + name, as_yaml(train[name]), comment)
    size = params.train_dataloader_params.batch_size
    yield Line("dataset_params.train_dataloader_params.batch_size", as_yaml(size), "pictures in a step")


def as_yaml(value: Any) -> str:
    """Return a value as it is written in a recipe: a text that YAML takes for something else is in quotes."""
    return str(value) if isinstance(value, bool) else OmegaConf.to_yaml({"key": value}).removeprefix("key: ").strip()


def written(lines: Iterable[Line]) -> Iterator[str]:
    """Yield the lines of the file, with the headings that they stand under."""
    above: list[str] = []
    for line in lines:
        *headings, name = line.key.split(".")
        if headings[:1] != above[:1]:
            yield ""
        for depth, heading in enumerate(headings):
            if headings[: depth + 1] != above[: depth + 1]:
                yield f"{'  ' * depth}{heading}:"
        above = headings
        yield f"{'  ' * len(headings)}{'# ' * line.proposed}{name}: {line.value}  # {line.comment}"
