"""A recipe whose data is a folder of pictures: what the folder holds decides what the recipe leaves open, and what is
wrong with it is said before training."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from super_gradients.common.abstractions.abstract_logger import get_logger
from super_gradients.common.environment.ddp_utils import is_launched_using_sg

from sg_resnets.data.fitting import sides
from sg_resnets.data.folder import SPLIT, Contents, contents, is_split_of_run, relative
from sg_resnets.data.image_folder import IMAGENET_MEAN, IMAGENET_STD
from sg_resnets.data.preprocessing import settings_of
from sg_resnets.host.current_run import CurrentRun
from sg_resnets.models.pretrained import processing_of
from sg_resnets.models.zoo import ZOO
from sg_resnets.runs import checkpoints
from sg_resnets.runs.build import follow_split, reads_folder
from sg_resnets.runs.check import count_of, describe, in_two_parts, look_with_progress
from sg_resnets.runs.find import find_checkpoint
from sg_resnets.utils.checks import one_of
from sg_resnets.utils.errors import MissingFileError, SeveralMistakes, SgResnetsError
from sg_resnets.utils.files import write_rows

logger = get_logger(__name__)
LOOKED_AT = 20_000  # pictures, up to which all are decoded before training
MANY_CLASSES = 10  # of more, the right one among the first five is a figure of its own
_OF_NETWORKS = ("arch_params", "student_arch_params", "teacher_arch_params")


def complete_folder(recipe: Any, trains: bool) -> None:
    """Put into a recipe what its folder of pictures says: the number of classes; before a training, say what is there.

    Raises:
        SgResnetsError: the folder cannot be used, or has damaged pictures that are not to be skipped.
    """
    if not reads_folder(recipe):
        return
    data = recipe.dataset_params
    take_list_alone(data)
    if not (data.train_dataset_params.get("synthetic") or data.train_dataset_params.get("root")):
        if trains:
            root = "dataset_params.train_dataset_params.root"
            raise SgResnetsError(f"{root} is missing: add {root}=VALUE, the folder of your pictures")
        return  # which the data set says
    follow_splits(recipe)
    follow_settings(recipe)
    take_grey(recipe)
    params: Any = OmegaConf.to_container(
        data[f"{'train' if trains else 'val'}_dataset_params"], resolve=True, throw_on_missing=True
    )
    found = None if params.get("synthetic") else contents_of(params)
    classes = len(found.class_names) if found else params["synthetic"]
    for key in _OF_NETWORKS:
        node = recipe.get(key)
        if OmegaConf.is_dict(node) and (OmegaConf.is_missing(node, "num_classes") or node.get("num_classes") is None):
            node.num_classes = classes
    if recipe.training_hyperparams.get("valid_metrics_list") is None:
        of_many = ["Top5"] if classes > MANY_CLASSES else []
        recipe.training_hyperparams.valid_metrics_list = ["Accuracy", "MacroF1", *of_many]
    if trains and found:
        for line in describe(found):
            logger.info(line)
        leave_out_damaged(recipe, found)


def take_list_alone(data: Any) -> None:
    """Where a CSV file is given as `labels`, and no `root`, let it be that too: its pictures are beside it."""
    for params in (data.train_dataset_params, data.val_dataset_params):
        if OmegaConf.select(params, "labels") and not OmegaConf.select(params, "root", throw_on_missing=False):
            params.root, params.labels = params.labels, None


def follow_settings(recipe: Any) -> None:
    """Prepare the pictures as those were that the weights know from which a recipe starts, or its teacher's; what the
    recipe says itself holds, with a warning where it is something else."""
    data = recipe.dataset_params
    (source, before), *others = [*weights_before(recipe)] or [("", {})]
    for key, value in sorted(before.items(), key=lambda each: each[0] == "crop_ratio"):  # after `fit`
        for node in (data.train_dataset_params, data.val_dataset_params):
            if key not in node or OmegaConf.is_interpolation(node, key):
                continue
            if key == "crop_ratio" and node.get("fit") not in (None, "crop"):
                continue  # the whole picture is seen
            if node[key] is None:
                node[key] = value
            elif not same(key, plain(node[key]), value):
                logger.warning(f"{key}={node[key]}, but {source} was trained with {value}: leave {key} out for that")
    train = {key: plain(data.train_dataset_params.get(key)) for key in ("size", "mean", "std")}
    for other, settings in others:
        for key, value in train.items():
            told = OmegaConf.select(recipe, "arch_params.teacher_input")
            if key in settings and value is not None and not same(key, value, settings[key]) and not told:
                logger.warning(
                    f"{key}={value}, but {other} was trained with {settings[key]}: arch_params.teacher_input gives a "
                    "teacher its own"
                )


def same(key: str, one: Any, other: Any) -> bool:
    """Whether two values of a setting mean the same; a size may be a number or both sides."""
    return one == other or (key == "size" and one is not None and sides(one) == sides(other))


def plain(value: Any) -> Any:
    """Return a recipe's value without OmegaConf's containers."""
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def take_grey(recipe: Any) -> None:
    """Give a network of one channel grey pictures, with ImageNet's mean and deviation over the channels, unless the
    recipe says others."""
    train = recipe.dataset_params.train_dataset_params
    channels = [(recipe.get(key) or {}).get("in_channels") for key in _OF_NETWORKS]
    if 1 in channels and train.get("mean") is None and train.get("std") is None:
        train.mean, train.std = [[round(sum(each) / 3, 3)] for each in (IMAGENET_MEAN, IMAGENET_STD)]


def weights_before(recipe: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (what, how its pictures are prepared) of the run that goes on, or else of the weights that a recipe starts
    from, then of its teacher's."""
    run = resumed_run(recipe)
    if run is not None:
        with suppress(MissingFileError):  # which is said where it is read
            yield str(run), settings_of(checkpoints.read(find_checkpoint(run)).get("processing_params"))
    for who in ("", "student_", "teacher_") if run is None else ("teacher_",):
        params: Any = recipe.get(f"{who}checkpoint_params") or {}
        path, kind = params.get("checkpoint_path"), params.get("pretrained_weights")
        name = recipe.get(f"{who}architecture")
        settings: dict[str, Any] = {}
        if path and not str(path).startswith("https://"):
            with suppress(MissingFileError):  # which is said where it is read
                settings = settings_of(checkpoints.read(Path(str(path)).expanduser()).get("processing_params"))
        elif isinstance(kind, str) and name in ZOO:
            settings = settings_of(processing_of(name, kind))
        if settings:
            yield str(path or f"{name}'s {kind}"), settings


def resumed_run(recipe: Any) -> Path | None:
    """Return the folder of the run that a recipe resumes, or of its experiment; None where it begins one."""
    if not OmegaConf.select(recipe, "training_hyperparams.resume") or not recipe.get("ckpt_root_dir"):
        return None
    run = recipe.training_hyperparams.get("run_id") or ""
    return Path(recipe.ckpt_root_dir, recipe.experiment_name, run).expanduser()


def follow_splits(recipe: Any) -> None:
    """Split the pictures as the run did whose checkpoint a recipe starts from: else its network would be validated on
    pictures that it has been trained on."""
    keys = ("checkpoint_params", "student_checkpoint_params", "teacher_checkpoint_params")
    paths = [OmegaConf.select(recipe, f"{key}.checkpoint_path", throw_on_missing=False) for key in keys]
    paths.append(resumed_run(recipe))
    for path in paths:
        if not path or str(path).startswith("https://"):
            continue
        with suppress(MissingFileError):  # which is said where it is read
            run = find_checkpoint(Path(str(path)).expanduser()).parent
            if follow_split(recipe, run):
                logger.info(f"the pictures are split as in {run / SPLIT}")


def contents_of(params: Mapping[str, Any]) -> Contents:
    """Return what the folder of a data set's parameters holds: all parts."""
    keys = {"labels": "labels", "val_fraction": "val_fraction", "split_seed": "seed"}
    given = {name: params[key] for key, name in keys.items() if params.get(key) is not None}
    return contents(params["root"], **given)


def leave_out_damaged(recipe: Any, found: Contents) -> None:
    """Look at the pictures: refuse damaged ones, or with `on_bad_image: skip` leave them out; warn of those that are
    the same in two parts."""
    train, val = (recipe.dataset_params[f"{part}_dataset_params"] for part in ("train", "val"))
    on_bad = one_of("raise", "skip")("on_bad_image", train.get("on_bad_image") or "raise")
    paths = [picture.path for pictures in found.parts.values() for picture in pictures]
    if on_bad == "raise" and (is_launched_using_sg() or int(os.environ.get("LOCAL_RANK", 0)) > 0):
        return  # the process that has started this one has looked, or the first of them does
    if on_bad == "raise" and len(paths) > LOOKED_AT:
        logger.info(f"{len(paths):,} pictures, not looked at before training: `sg-resnets check {found.root}` does")
        return
    looked = look_with_progress(paths)
    damaged = sorted((each for each in looked if each.reason), key=lambda each: each.path)
    if damaged and on_bad == "raise":
        lines = [f"{each.path}: {each.reason}" for each in damaged]
        advice = "repair or remove them, or set dataset_params.train_dataset_params.on_bad_image=skip"
        raise SeveralMistakes("\n".join([f"{count_of(len(damaged), 'damaged picture')}: {advice}", *lines]))
    if damaged:
        names = ", ".join(relative(each.path, found.root) for each in damaged)
        logger.warning(f"{count_of(len(damaged), 'damaged picture')} left out: {names}")
        train.left_out = val.left_out = [relative(each.path, found.root) for each in damaged]
    for line in in_two_parts(looked, found):
        logger.warning(line)


def write_split(run: CurrentRun, folder: Path) -> None:
    """Write which pictures a run trains and validates on into its folder, where it has chosen them itself; a file that
    is there stays."""
    if (
        (folder / SPLIT).exists()
        or not reads_folder(run.recipe)
        or run.recipe["dataset_params"]["train_dataset_params"].get("synthetic")
    ):
        return
    params = run.recipe["dataset_params"]["train_dataset_params"]
    found = contents_of(params)
    if found.is_split or is_split_of_run(Path(params.get("labels") or "")):  # that of the run that it starts from
        rows = [
            {"file": relative(picture.path, found.root), "class": found.class_names[picture.label], "part": part}
            for part, pictures in found.parts.items()
            for picture in pictures
        ]
        write_rows(rows, folder / SPLIT)
