"""What is done with a finished or interrupted run: resume it, evaluate it, predict with it.

A run is a folder `<ckpt_root_dir>/<experiment>/RUN_<time>` with checkpoints and `.hydra/config.yaml`; each checkpoint
also carries its recipe, so it can leave its folder.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from super_gradients import Trainer
from super_gradients.training import dataloaders, models

from sg_resnets import onnx_file
from sg_resnets.compat.safe_checkpoints import read_checkpoint
from sg_resnets.data.preprocessing import image_side
from sg_resnets.diagnostics.curves import read_curves
from sg_resnets.distillation.student import student_alone
from sg_resnets.errors import SgResnetsError, choices
from sg_resnets.onnx_file import FileInfo
from sg_resnets.paths import find_run
from sg_resnets.quantization.calibrate import calibrate
from sg_resnets.quantization.graph import insert_quantizers
from sg_resnets.quantization.params import QuantizationParams
from sg_resnets.quantization.trainer import complete_calibration_data, file_info, is_quantised, rebuild
from sg_resnets.recipe import SHORTCUTS, import_plugins
from sg_resnets.zoo import ZOO

_OF_THE_OPTIMISER = tuple(
    f"training_hyperparams.{key}" for key in ("optimizer", "zero_weight_decay_on_bias_and_bn", "finetune")
)


def resume_run(path: Path, overrides: list[str]) -> None:
    """Train on from `ckpt_latest.pth` with the run's own recipe, `overrides` (`epochs=20`, dotted keys) put over it."""
    run = find_run(path.parent if path.is_file() else path, "ckpt_latest.pth")
    recipe = run / ".hydra" / "config.yaml"
    if not recipe.is_file():
        raise SgResnetsError(f"{recipe} is missing: the run was not trained from a recipe")
    cfg = OmegaConf.load(recipe)
    with open_dict(cfg):
        cfg.update({name: None for name in SHORTCUTS})  # what they stood for is in the recipe already
    _override(cfg, overrides, run)
    done, wanted = read_checkpoint(run / "ckpt_latest.pth")["epoch"], cfg.epochs or cfg.training_hyperparams.max_epochs
    if isinstance(wanted, int) and done >= wanted:
        raise SgResnetsError(
            f"{run} is finished ({done} epochs of {wanted}): resume it with epochs={2 * done} for more"
        )
    with open_dict(cfg):
        cfg.ckpt_root_dir, cfg.experiment_name = str(run.parent.parent), run.parent.name
        cfg.resume = cfg.training_hyperparams.resume = True
        cfg.training_hyperparams.run_id = run.name
    start = Trainer.quantize_from_config if "quantization_params" in cfg else Trainer.train_from_config
    start(cfg)


def _override(cfg: Any, overrides: list[str], run: Path) -> None:
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or OmegaConf.select(cfg, key, default=KeyError) is KeyError:
            near = choices(key, _keys(cfg), limit=8)
            raise SgResnetsError(f"'{override}' overrides nothing: write key=value with a key of the recipe; {near}")
        of_pytorch = isinstance(OmegaConf.select(cfg, "training_hyperparams.lr_mode"), DictConfig)
        if isinstance(OmegaConf.select(cfg, key), DictConfig) and not value.startswith("{"):
            raise SgResnetsError(f"'{override}': a run keeps its groups; give a single key, {_key_in(cfg, key)}=...")
        if key in ("lr", "training_hyperparams.initial_lr") and of_pytorch:
            raise SgResnetsError(
                f"'{override}': leave it out, the run's schedule (PyTorch's) goes on with its own rates"
            )
        if key == "architecture":
            raise SgResnetsError("a run goes on with its own network: leave out architecture, or train a new run")
        if key.startswith(_OF_THE_OPTIMISER):
            raise SgResnetsError(
                f"'{override}': a run goes on with its own optimiser; leave it out (lr= may change), or train a new "
                f"run from its weights with checkpoint_params.checkpoint_path={run / 'ckpt_latest.pth'}"
            )
    cfg.merge_with_dotlist(overrides)


def _key_in(cfg: Any, group: str) -> str:
    return next((key for key in _keys(cfg) if key.startswith(f"{group}.")), group)


def _keys(cfg: Any) -> list[str]:
    """The shortcuts, then every dotted key of the recipe."""

    def below(node: Any, prefix: str) -> Iterator[str]:
        for key, value in node.items():
            if isinstance(value, dict):
                yield from below(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"

    keys = list(below(OmegaConf.to_container(cfg), ""))
    return [*SHORTCUTS, *(key for key in keys if key not in SHORTCUTS)]


def load_checkpoint(path: Path) -> tuple[Path, dict[str, Any]]:
    """A checkpoint file and what it holds; `path` may be a run's or an experiment's folder (its `ckpt_best.pth`).

    Raises:
        SgResnetsError: no such file, a damaged one, or one without the recipe that it was trained with.
    """
    if path.is_dir():
        path = find_run(path, "ckpt_best.pth") / "ckpt_best.pth"
    if not path.exists():
        raise SgResnetsError(f"there is no {path}: give a checkpoint, a run's folder, or its experiment's")
    state = read_checkpoint(path)
    if not isinstance(state, dict) or "recipe" not in state:
        raise SgResnetsError(
            f"{path} does not say which network it is: it was saved without a recipe; load it in Python with "
            "super_gradients.training.models.get(name, num_classes=N, checkpoint_path=...)"
        )
    return path, student_alone(state)


def recipe_of(state: dict[str, Any], plugins: list[str]) -> DictConfig:
    """The recipe in a checkpoint. The modules it names are the user's code, not the checkpoint's to run: whoever reads
    it has to name them again."""
    recipe = OmegaConf.create(state["recipe"])
    missing = [module for module in recipe.get("plugins") or [] if module not in plugins]
    if missing:
        raise SgResnetsError(
            f"the network was trained with plugins, modules of yours that are not imported unasked: add "
            f"{' '.join(f'--plugin {module}' for module in missing)}"
        )
    import_plugins(plugins)
    return recipe


def evaluate_checkpoint(path: Path, plugins: list[str]) -> Iterator[tuple[str, str]]:
    """Evaluate on the recipe's test data; yields the rows of a table, (what, value)."""
    path, state = load_checkpoint(path)
    cfg = recipe_of(state, plugins)
    with open_dict(cfg):
        cfg.checkpoint_params.checkpoint_path = str(path)
        cfg.checkpoint_params.pretrained_weights = None
        cfg.multi_gpu, cfg.num_gpus = "Off", None  # in this process, wherever it was trained
    with _only_warnings():
        if is_quantised(state["net"]):
            network, results = _evaluate_quantised(cfg, state)
        else:
            network, results = Trainer.evaluate_from_config(cfg)
    yield "model", cfg.architecture + (", quantised" if is_quantised(state["net"]) else "")
    yield "parameters", f"{sum(p.numel() for p in network.parameters()):,}"
    yield "data", f"{cfg.dataset_params.val_dataloader_params.get('dataset') or cfg.val_dataloader}, test split"
    for name, value in results.items():
        yield f"test {name}", f"{float(value):.4f}"
    curves = [record for record in read_curves(path.parent / "curves.csv") if record.epoch <= state["epoch"]]
    yield (
        "trained for",
        f"{state['epoch']} epoch{'s' * (state['epoch'] != 1)}" + (f", {curves[-1].seconds:.0f} s" if curves else ""),
    )
    if curves:
        yield "peak memory", f"{curves[-1].peak_memory_mib:,.0f} MiB"
    yield "checkpoint", str(path)
    if curves:
        yield "curves", str(path.parent / "curves.png")


def _evaluate_quantised(cfg: DictConfig, state: dict[str, Any]) -> tuple[Any, dict[str, float]]:
    network = _quantised(cfg, state)
    trainer = Trainer(experiment_name=cfg.experiment_name, ckpt_root_dir=cfg.ckpt_root_dir)
    metrics = OmegaConf.to_container(cfg.training_hyperparams.valid_metrics_list)
    return network, trainer.test(
        model=network, test_loader=loader_of(cfg, "val"), test_metrics_list=metrics, silent_mode=True
    )


def loader_of(recipe: DictConfig, split: str) -> Any:
    """The recipe's loader of `split`, "train", "val" or "calib"."""
    data = recipe.dataset_params
    dataset, loading = (data[f"{split}_{part}_params"] for part in ("dataset", "dataloader"))
    return dataloaders.get(
        name=recipe.get(f"{split}_dataloader"),
        dataset_params=OmegaConf.to_container(dataset, resolve=True),
        dataloader_params=OmegaConf.to_container(loading, resolve=True),
    )


def export_onnx(
    path: Path,
    output: Path,
    int8: bool = False,
    uint8_input: bool = False,
    plugins: Sequence[str] = (),
    quantization: Sequence[str] = (),
) -> tuple[Path, FileInfo]:
    """Write a checkpoint (of a run: the best one) as an ONNX file, with its preprocessing, recipe and accuracy in it.

    A float network becomes INT8 by calibration on its recipe's training data, with `quantization` (key=value) put over
    its recipe's `quantization_params`; a quantised one is INT8 already.

    Raises:
        SgResnetsError: a float file, or another quantisation, is asked of a quantised network, an unknown parameter, or
            the file cannot be written.
    """
    if not output.absolute().parent.is_dir():
        raise SgResnetsError(f"{output} cannot be written: there is no folder {output.parent}")
    path, state = load_checkpoint(path)
    recipe = recipe_of(state, list(plugins))
    kind, accuracy = "fp32", None
    if OmegaConf.select(recipe, "training_hyperparams.metric_to_watch") == "Accuracy" and state.get("acc") is not None:
        accuracy = float(state["acc"])
    given = OmegaConf.merge(recipe.get("quantization_params") or {}, OmegaConf.from_dotlist(list(quantization)))
    params = QuantizationParams.from_recipe(given)  # type: ignore[arg-type]
    if is_quantised(state["net"]):
        if quantization:
            raise SgResnetsError(f"{path} holds a quantised network: leave out --quantization {quantization[0]}")
        if not int8:
            raise SgResnetsError(f"{path} holds a quantised network: write it with --format int8")
        network: Any = _quantised(recipe, state)
        kind = "qat" if state.get("epoch") else "ptq"
    else:
        network = build_network(recipe, path).eval()
        if int8:
            kind, accuracy, network = "ptq", None, insert_quantizers(network, params)
            complete_calibration_data(recipe)
            seed = OmegaConf.select(recipe, "training_hyperparams.seed", default=42)
            with _only_warnings(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)  # the calibration images are the same every time
                calibrate(network, loader_of(recipe, "calib"), params)
    preprocessing = state.get("processing_params")
    info = file_info(
        preprocessing,
        uint8_input=uint8_input,
        accuracy=accuracy,
        kind=kind,
        reduce_range=params.reduce_range and int8,
        recipe=OmegaConf.to_container(recipe, resolve=True),
    )
    if uint8_input and not info.mean:
        raise SgResnetsError(f"{path} does not say how its images are normalised: export it without --uint8-input")
    channels = network.get_input_channels()
    side = image_side(preprocessing) or (ZOO[recipe.architecture].input_size if recipe.architecture in ZOO else 32)
    onnx_file.write(network, output, (channels, side, side), info, params.runtime.integer_bias)
    return path, info


def _quantised(recipe: DictConfig, state: dict[str, Any]) -> Any:
    """The quantised network of a checkpoint's contents."""
    return rebuild(build_network(recipe), recipe, state.get("ema_net") or state["net"]).eval()


def predict_images(checkpoint: Path, images: list[Path], plugins: list[str]) -> Iterator[tuple[Path, str, float]]:
    """Yields (image file, class name, probability) for images of any size."""
    import numpy as np

    from sg_resnets.data.image_folder import UNREADABLE, read_rgb

    path, state = load_checkpoint(checkpoint)
    recipe = recipe_of(state, plugins)
    if is_quantised(state["net"]):
        if not state.get("processing_params"):
            raise SgResnetsError(f"{path} does not say how its images are prepared: its data set did not either")
        network = build_network(recipe)
        network.set_dataset_processing_params(**state["processing_params"])
        network.forward = _quantised(recipe, state).forward  # the host's pipeline around the quantised network
    else:
        network = build_network(recipe, path)
    network.eval()
    for image in images:
        try:
            pixels = read_rgb(image)
        except FileNotFoundError:
            raise SgResnetsError(f"no image at {image}") from None
        except UNREADABLE:
            raise SgResnetsError(
                f"{image} cannot be read as an image: give a whole PNG, JPEG or another file that Pillow reads"
            ) from None
        result = network.predict(np.asarray(pixels), fuse_model=False, fp16=False)
        yield image, result.class_names[result.prediction.label], result.prediction.confidence


def build_network(recipe: DictConfig, checkpoint: Path | None = None) -> Any:
    """The recipe's network, with the checkpoint's weights if there is one, by the host's own factory."""
    with _only_warnings():
        return models.get(
            recipe.architecture,
            arch_params=OmegaConf.to_container(recipe.arch_params),
            num_classes=recipe.arch_params.num_classes,
            checkpoint_path=checkpoint and str(checkpoint),
            num_input_channels=recipe.arch_params.get("num_input_channels"),
        )


@contextlib.contextmanager
def _only_warnings() -> Iterator[None]:
    """The host tells of every step; a command that prints a table does not."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
