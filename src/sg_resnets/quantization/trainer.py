"""INT8 behind the host's own entry point, `super_gradients.qat_from_recipe`: its `ptq` and `qat` with our quantisers.

The host's are dead: they install a package that is gone, from a server that does not have it (3.7.1,
`import_pytorch_quantization_or_install`). `Trainer.quantize_from_config` stays; what it lacks is put into the recipe.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf, open_dict
from super_gradients.common.abstractions.abstract_logger import get_logger
from super_gradients.common.environment.checkpoints_dir_utils import generate_run_id, get_checkpoints_dir_path
from super_gradients.common.environment.device_utils import device_config
from super_gradients.module_interfaces import HasPreprocessingParams
from super_gradients.module_interfaces.quantization_result import QuantizationResult
from super_gradients.training.kd_trainer.kd_trainer import KDTrainer
from super_gradients.training.sg_trainer import sg_trainer
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils import HpmStruct
from super_gradients.training.utils.utils import unwrap_model
from torch import nn
from torch.utils.data import DataLoader

from sg_resnets import onnx_file
from sg_resnets.compat import recipe_of_a_run
from sg_resnets.compat.atomic_checkpoints import whole_file
from sg_resnets.compat.patching import replace_everywhere, wrap_method
from sg_resnets.data.preprocessing import steps_of
from sg_resnets.distillation.distiller import Distiller
from sg_resnets.errors import SgResnetsError
from sg_resnets.onnx_benchmark import measure, predictions, predictor
from sg_resnets.onnx_file import FileInfo
from sg_resnets.quantization.calibrate import calibrate
from sg_resnets.quantization.graph import QuantizedNetwork, insert_quantizers
from sg_resnets.quantization.params import QuantizationParams
from sg_resnets.quantization.report import Report, Sensitivity, sensitivity, torch_predictor

logger = get_logger(__name__)
# Keys of a data set's parameters that say which images it has; all others say what is done to them.
_WHICH_IMAGES = ("root", "train", "split", "max_samples", "skip_samples", "synthetic")


def file_info(preprocessing: Mapping[str, Any] | None, **more: Any) -> FileInfo:
    """An ONNX file's description of itself, from a data set's preprocessing (`preprocessing_params`) and `more`."""
    normalise = steps_of(preprocessing).get("NormalizeImage", {})
    return FileInfo(
        classes=list((preprocessing or {}).get("class_names") or []),
        mean=list(normalise.get("mean", [])),
        std=list(normalise.get("std", [])),
        **more,
    )


def preprocessing_of(loader: DataLoader) -> dict[str, Any] | None:
    """What the loader's data set says of its preprocessing, if it does."""
    dataset = loader.dataset
    return dataset.get_dataset_preprocessing_params() if isinstance(dataset, HasPreprocessingParams) else None


def _output_path(export_params: Any) -> Path | None:
    """Where the recipe wants the last ONNX file, if it says so; refused before any work if it cannot be written."""
    given = getattr(export_params, "output_onnx_path", None)
    if not given:
        return None
    path = Path(str(given))
    if not path.absolute().parent.is_dir():
        raise SgResnetsError(f"export_params.output_onnx_path={path}: there is no folder {path.parent}")
    if path.is_dir():
        raise SgResnetsError(f"export_params.output_onnx_path={path} is a folder: name the file to write")
    return path


def _given(trainer: Trainer, model: nn.Module | None) -> nn.Module:
    """The network to quantise: as in the host, None stands for the one that the trainer has trained."""
    network = trainer.net if model is None else model
    if network is None:
        raise SgResnetsError("there is no network to quantise: give model=, or train one first")
    return network


def _tested(trainer: Trainer, network: nn.Module, loader: DataLoader, metrics: Any) -> dict[str, float]:
    """The network's figure on the loader, by metric."""
    figures = trainer.test(model=network, test_loader=loader, test_metrics_list=metrics, silent_mode=True)
    return {name: float(value) for name, value in figures.items()}


def _calibrated(model: nn.Module, loader: DataLoader, params: QuantizationParams) -> dict[str, nn.Module]:
    """The float network, and the same with calibrated quantisers."""
    network = unwrap_model(model).to(device_config.device).eval()
    quantised = insert_quantizers(network, params)
    logger.info("Calibrating")
    calibrate(quantised, loader, params)
    return {"fp32": network, "ptq": quantised}


def _result(
    name: str,
    networks: Mapping[str, nn.Module],
    figures: Mapping[str, float],
    loader: DataLoader,
    params: QuantizationParams,
    folder: Path,
    output: Path | None,
) -> QuantizationResult:
    """Write the files and the report; `figures` are the last network's metrics."""
    kind, final = list(networks.items())[-1]
    info = file_info(preprocessing_of(loader), recipe=recipe_of_a_run.with_recipe({}).get("recipe") or {})
    report = _report(networks, loader, params, info, folder, name)
    for line in report.lines():
        print(line)
    written = folder / f"{kind}.onnx"
    if output is not None:
        try:
            output.write_bytes(written.read_bytes())
        except OSError as error:
            raise SgResnetsError(f"{output} cannot be written ({error.strerror}): the file is {written}") from None
    return QuantizationResult(
        quantized_model=final, output_onnx_path=str(output or written), valid_metrics_dict=figures
    )


def _report(
    networks: Mapping[str, nn.Module],
    loader: DataLoader,
    params: QuantizationParams,
    info: FileInfo,
    folder: Path,
    name: str,
) -> Report:
    """Write a file for each network, measure them all, and save the report beside them."""
    logger.info("Writing and measuring the ONNX files")
    labels, in_torch = predictions(loader, {kind: torch_predictor(network) for kind, network in networks.items()})
    accuracies = {kind: float((classes == labels).mean()) for kind, classes in in_torch.items()}
    images = next(iter(loader))[0]
    paths = {kind: folder / f"{kind}.onnx" for kind in networks}
    for kind, network in networks.items():
        described = replace(
            info, kind=kind, accuracy=accuracies[kind], reduce_range=params.reduce_range and kind != "fp32"
        )
        onnx_file.write(network, paths[kind], images.shape[1:], described, params.runtime.integer_bias)
    _, in_files = predictions(
        loader, {kind: predictor(path, onnx_file.read_info(path)) for kind, path in paths.items()}
    )
    last: Any = list(networks.values())[-1]
    report = Report(
        model=name,
        target=params.target,
        files=[
            replace(row, accuracy=float((in_files[row.kind] == labels).mean()))
            for row in measure(list(paths.values()), None)
        ],
        in_torch=accuracies,
        agreement={kind: float((in_files[kind] == in_torch[kind]).mean()) for kind in networks},
        in_float=last.in_float,
        infos=[onnx_file.read_info(path) for path in paths.values()],
        sensitivities=_sensitivities(last, loader, params.sensitivity_images),
    )
    report.save(folder)
    logger.info(f"Report: {folder / 'report.json'}, {folder / 'report.png'}")
    return report


def _sensitivities(network: QuantizedNetwork, loader: DataLoader, count: int) -> list[Sensitivity]:
    """Each layer's, on the first `count` images of the loader."""
    batches: list[torch.Tensor] = []
    for batch in loader:
        if sum(map(len, batches)) >= count:
            break
        batches.append(batch[0])
    return sensitivity(network, torch.cat(batches)[:count].to(device_config.device)) if count else []


def _fine_tune(
    trainer: Trainer, teacher: nn.Module, calibrated: nn.Module, training_params: Mapping[str, Any], **loaders: Any
) -> tuple[nn.Module, Path]:
    """Train a copy with the quantisers in, by the host's Trainer; with a distillation loss the float network is the
    teacher. Returns the network of the last epoch, its moving average if there is one, and the run's folder."""
    student = copy.deepcopy(calibrated)
    loss = training_params.get("loss")
    if isinstance(loss, str | Mapping) and "DistillationLoss" in loss:
        trainer = KDTrainer(experiment_name=trainer.experiment_name, ckpt_root_dir=trainer.ckpt_root_dir)
        student = Distiller(HpmStruct(taps=None), student, copy.deepcopy(teacher))
    trainer.train(model=student, training_params=training_params, **loaders)
    final: Any = unwrap_model(trainer.ema_model.ema if trainer.ema_model is not None else trainer.net)
    return (final.student if isinstance(final, Distiller) else final).eval(), Path(trainer.checkpoints_dir_path)


def rebuild(network: nn.Module, recipe: Any, weights: Mapping[str, torch.Tensor]) -> QuantizedNetwork:
    """The quantised network of a checkpoint: `network`, built from the same recipe, with quantisers, and the weights
    and ranges loaded strictly."""
    quantised = insert_quantizers(network, QuantizationParams.from_recipe(recipe.get("quantization_params")))
    try:
        quantised.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise SgResnetsError(
            f"the checkpoint's quantisers are not those of its recipe ({str(error).splitlines()[-1].strip()[:200]})"
        ) from None
    return quantised


def is_quantised(weights: Mapping[str, Any]) -> bool:
    """Whether a state dict is one of a network with quantisers."""
    return any(key.endswith("weight_quantizer.amax") for key in weights)


def _complete(cfg: Any) -> None:
    """Put into a recipe what `quantize_from_config` does not see to itself, and refuse what cannot be meant.

    Raises:
        SgResnetsError: no weights to start from, a wrong quantisation parameter, several processes.
    """
    QuantizationParams.from_recipe(cfg.get("quantization_params"))
    given = cfg.checkpoint_params.get("checkpoint_path") or cfg.checkpoint_params.get("pretrained_weights")
    if not given and not cfg.get("smoke"):
        raise SgResnetsError(
            "quantisation starts from a trained network: set checkpoint_params.checkpoint_path=FILE_OR_RUN or "
            "checkpoint_params.pretrained_weights=KIND"
        )
    if cfg.get("multi_gpu") not in (None, False, "Off", "OFF") or cfg.get("num_gpus") not in (None, -1, 0, 1):
        raise SgResnetsError(f"multi_gpu={cfg.multi_gpu}, num_gpus={cfg.num_gpus}: quantisation runs in one process")
    if cfg.training_hyperparams.get("finetune"):
        raise SgResnetsError("training_hyperparams.finetune: leave it out: quantised fine-tuning trains all weights")
    with open_dict(cfg):
        cfg.num_gpus = 1
        complete_calibration_data(cfg)
        if cfg.get("smoke") and not given:
            cfg.checkpoint_params.checkpoint_path = _untrained(cfg)
        method = OmegaConf.select(cfg, "distillation.method")
        if method and "DistillationLoss" not in cfg.training_hyperparams.loss:
            loss = cfg.training_hyperparams.loss
            criterion = OmegaConf.to_container(cfg.training_hyperparams.criterion_params) or {}
            task = {loss: criterion} if isinstance(loss, str) else loss
            weights = {key: cfg.distillation[key] for key in ("weight", "task_weight", "warmup_epochs")}
            cfg.training_hyperparams.loss = {"DistillationLoss": {"task": task, "method": method, **weights}}
            cfg.training_hyperparams.criterion_params = {}


def complete_calibration_data(cfg: Any) -> None:
    """Calibrate on training images as they are evaluated, in batches as they are trained on, unless the recipe says
    otherwise."""
    data = cfg.dataset_params
    if "calib_dataloader" in cfg:
        return
    parts = ("train_dataset", "val_dataset", "train_dataloader", "val_dataloader")
    plain: list[Any] = [OmegaConf.to_container(data[f"{part}_params"], resolve=True) for part in parts]
    train, evaluated, training, evaluating = plain
    which = {key: train[key] for key in _WHICH_IMAGES if key in train}
    kept = {key: value for key, value in evaluated.items() if key not in _WHICH_IMAGES}
    loading = {key: training[key] for key in ("dataset", "batch_size") if key in training}
    with open_dict(cfg):
        cfg.calib_dataloader = cfg.get("train_dataloader")
        data.calib_dataset_params = {**kept, **which}
        if "image_folder" in (training.get("dataset"), cfg.calib_dataloader):
            data.calib_dataset_params.augmented = False  # the others augment only what their parameters say
        data.calib_dataloader_params = {**evaluating, **loading, "shuffle": True, "drop_last": False}


def _untrained(cfg: Any) -> str:
    """A checkpoint that knows nothing, to try the recipe out with."""
    import tempfile

    from super_gradients.training import models

    network = models.get(cfg.architecture, arch_params=OmegaConf.to_container(cfg.arch_params, resolve=True))
    path = Path(tempfile.mkdtemp(), "untrained.pth")
    torch.save({"net": network.state_dict()}, path)
    return str(path)


def extend_trainer_with_int8() -> None:
    """Enter all of this in the host; `sg_resnets.compat.int8` does."""

    def completed(original):
        def quantize_from_config(cls, cfg):
            cfg = OmegaConf.create(copy.deepcopy(cfg))  # what is completed is not the recipe that a run remembers
            _complete(cfg)
            return original(cls, cfg)

        return quantize_from_config

    def ptq(
        self,
        *,
        model,
        valid_loader,
        valid_metrics_list=None,
        calib_loader=None,
        quantization_params=None,
        export_params=None,
        deepcopy_model_for_export=None,  # the host's, which takes no notice of it either
    ):
        params, output = QuantizationParams.from_recipe(quantization_params), _output_path(export_params)
        networks = _calibrated(_given(self, model), valid_loader if calib_loader is None else calib_loader, params)
        folder = Path(get_checkpoints_dir_path(self.experiment_name, self.ckpt_root_dir, generate_run_id()))
        folder.mkdir(parents=True, exist_ok=True)
        metrics = valid_metrics_list or self.valid_metrics
        figures = _tested(self, networks["ptq"], valid_loader, metrics)
        state: dict[str, Any] = {
            "net": networks["ptq"].state_dict(),
            "epoch": 0,
            "processing_params": preprocessing_of(valid_loader),
        }
        state = recipe_of_a_run.with_recipe(state)
        watched = state.get("recipe", {}).get("training_hyperparams", {}).get("metric_to_watch")
        if watched in figures:
            state["acc"] = float(figures[watched])
        with whole_file(folder / "ckpt_best.pth") as beside:
            torch.save(state, beside)
        return _result(self.experiment_name, networks, figures, valid_loader, params, folder, output)

    def qat(
        self,
        *,
        model,
        train_loader,
        valid_loader,
        calib_loader=None,
        training_params=None,
        quantization_params=None,
        additional_qat_configs_to_log=None,
        valid_metrics_list=None,
        export_params=None,
    ):
        params, output = QuantizationParams.from_recipe(quantization_params), _output_path(export_params)
        if training_params is None:
            raise SgResnetsError("qat trains the network: give training_params, as for Trainer.train")
        networks = _calibrated(_given(self, model), valid_loader if calib_loader is None else calib_loader, params)
        networks["qat"], folder = _fine_tune(
            self,
            networks["fp32"],
            networks["ptq"],
            training_params,
            train_loader=train_loader,
            valid_loader=valid_loader,
            additional_configs_to_log=additional_qat_configs_to_log,
        )
        metrics = valid_metrics_list or training_params["valid_metrics_list"]
        figures = _tested(self, networks["qat"], valid_loader, metrics)
        return _result(self.experiment_name, networks, figures, valid_loader, params, folder, output)

    name = "import_pytorch_quantization_or_install"  # pip at run time, from a server that is gone
    replace_everywhere(name, getattr(sg_trainer, name), lambda: None)
    wrap_method(Trainer, "quantize_from_config", completed)
    wrap_method(Trainer, "ptq", lambda original: ptq)
    wrap_method(Trainer, "qat", lambda original: qat)
