"""INT8 behind SuperGradients' own entry point, `super_gradients.qat_from_recipe`: its `ptq` and `qat` with our
quantisers.

Its own are dead: they install `pytorch_quantization` with pip at run time, from a server that no longer has it; where
it ran, its graphs were slower than float32. `Trainer.quantize_from_config` stays; what it lacks is put into the recipe.
"""

import copy
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf, open_dict
from super_gradients.common.abstractions.abstract_logger import get_logger
from super_gradients.common.environment.checkpoints_dir_utils import generate_run_id, get_checkpoints_dir_path
from super_gradients.common.environment.device_utils import device_config
from super_gradients.conversion.export_params import ExportParams
from super_gradients.module_interfaces import HasPredict, HasPreprocessingParams
from super_gradients.module_interfaces.quantization_result import QuantizationResult
from super_gradients.training import models
from super_gradients.training.kd_trainer.kd_trainer import KDTrainer
from super_gradients.training.sg_trainer import sg_trainer
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils import HpmStruct
from super_gradients.training.utils.utils import unwrap_model
from torch import nn
from torch.utils.data import DataLoader

from sg_resnets.export import onnx
from sg_resnets.export.benchmark import measure, predictions
from sg_resnets.export.int8_report import Report, torch_predictor
from sg_resnets.host.current_run import current_run
from sg_resnets.host.distillation import RegisteredDistiller
from sg_resnets.host.export_params import OnnxExportParams, check_export_keys, export_settings
from sg_resnets.host.patching import Patch, Rebind, Repair
from sg_resnets.quantization.calibrate import calibrate
from sg_resnets.quantization.graph import QuantizedNetwork, insert_quantizers
from sg_resnets.quantization.params import QuantizationParams
from sg_resnets.quantization.sensitivity import WithinDrop, first_images, sensitivity, within_drop
from sg_resnets.runs import checkpoints
from sg_resnets.runs.build import add_calibration_data
from sg_resnets.runs.find import BEST, LATEST, find_run
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.files import write_bytes

logger = get_logger(__name__)


class PredictingQuantizedNetwork(QuantizedNetwork, HasPredict):
    """A quantised network of which SuperGradients saves how its images are prepared."""


@dataclass(frozen=True)
class Quantization:
    """One run of `ptq` or `qat`.

    Attributes:
        name: the experiment's.
        params: of the quantisation.
        loader: the test data's.
        networks: by kind, in the order they were made: "fp32"; "ptq_all" if `max_drop` keeps layers in float32 that it
            has in INT8; "ptq"; and after fine-tuning "qat".
        within: what `max_drop` keeps in float32, where it was asked for.
        folder: the run's.
        export: how the ONNX files are written, and where the recipe wants a copy of the last, if it says so.
    """

    name: str
    params: QuantizationParams
    loader: DataLoader
    networks: Mapping[str, nn.Module]
    within: WithinDrop | None
    folder: Path
    export: OnnxExportParams

    def finish(self, figures: Mapping[str, float]) -> QuantizationResult:
        """Write the files and the report, print it, and return what SuperGradients' callers get; `figures` are the last
        network's, by metric."""
        logger.info("Writing and measuring the ONNX files")
        in_torch = {kind: torch_predictor(network) for kind, network in self.networks.items()}
        labels, by_torch = predictions(self.loader, in_torch)
        accuracies = {kind: float((classes == labels).mean()) for kind, classes in by_torch.items()}
        paths = self._write_files(accuracies)
        report = self._report(paths, by_torch, accuracies)
        report.save(self.folder)
        logger.info(f"Report: {self.folder / 'report.json'}, {self.folder / 'report.png'}")
        print("\n".join(report.lines()))
        kind, final = list(self.networks.items())[-1]
        output = self.export.output_onnx_path
        if output:
            write_bytes(Path(output), paths[kind].read_bytes())
        return QuantizationResult(
            quantized_model=final, output_onnx_path=output or str(paths[kind]), valid_metrics_dict=figures
        )

    def _write_files(self, accuracies: Mapping[str, float]) -> dict[str, Path]:
        """Write an ONNX file for each network; return their paths by kind."""
        run = current_run()
        info = onnx.FileInfo.of(preprocessing_of(self.loader), recipe=run.recipe if run else {})
        images = next(iter(self.loader))[0]
        paths = {kind: self.folder / f"{kind}.onnx" for kind in self.networks}
        for kind, network in self.networks.items():
            onnx.write(
                network,
                paths[kind],
                images.shape[1:],
                replace(info, kind=kind, accuracy=accuracies[kind]),
                self.params.runtime.integer_bias,
                self.export.opset,
                self.export.dynamic_size,
            )
        return paths

    def _report(
        self, paths: Mapping[str, Path], by_torch: Mapping[str, Any], accuracies: Mapping[str, float]
    ) -> Report:
        """Measure the files beside their networks."""
        rows, left_out = measure(list(paths.values()), self.loader)
        last: Any = list(self.networks.values())[-1]
        count = self.params.sensitivity_images
        return Report(
            model=self.name,
            target=self.params.target,
            files=rows,
            left_out=left_out,
            in_torch=accuracies,
            agreement=[float((row.classes == by_torch[row.kind]).mean()) for row in rows],
            in_float=last.in_float,
            paths=list(paths.values()),
            sensitivities=sensitivity(last, first_images(self.loader, count)) if count else [],
            max_drop=self.params.max_drop,
            within=self.within,
        )


def evaluate_network(trainer: Trainer, network: nn.Module, loader: DataLoader, metrics: Any) -> dict[str, float]:
    """Return the network's figures on the loader, by metric."""
    figures = trainer.test(model=network, test_loader=loader, test_metrics_list=metrics, silent_mode=True)
    return {name: float(value) for name, value in figures.items()}


def preprocessing_of(loader: DataLoader) -> dict[str, Any] | None:
    """Return what the loader's data set says of its preprocessing, if it does."""
    dataset = loader.dataset
    return dataset.get_dataset_preprocessing_params() if isinstance(dataset, HasPreprocessingParams) else None


def float_network(trainer: Trainer, model: nn.Module | None) -> nn.Module:
    """Return the network to quantise, in eval mode: None stands for the one that the trainer has trained.

    Raises:
        SgResnetsError: there is none.
    """
    network = trainer.net if model is None else model
    if network is None:
        raise SgResnetsError("there is no network to quantise: give model=, or train one first")
    return unwrap_model(network).to(device_config.device).eval()


def calibrated(
    network: nn.Module,
    loader: DataLoader,
    params: QuantizationParams,
    test_loader: DataLoader,
    kept: tuple[str, ...] | None = None,
) -> tuple[dict[str, nn.Module], WithinDrop | None]:
    """Return the float network, and the same with calibrated quantisers; and what `max_drop` keeps in float32, or
    `kept`, if that is known."""

    def quantised(params: QuantizationParams) -> QuantizedNetwork:
        quantised = insert_quantizers(network, params, PredictingQuantizedNetwork)
        calibrate(quantised, loader, params)
        return quantised

    logger.info("Calibrating")
    if params.max_drop is None:
        return {"fp32": network, "ptq": quantised(params)}, None
    within = within_drop(same_random_numbers(quantised), params, network, test_loader, kept)
    run = current_run()
    if run is not None:
        add_skipped(run.recipe, within.layers)
    everything = {"ptq_all": within.everything} if within.layers else {}
    return {"fp32": network, **everything, "ptq": within.network}, within


def same_random_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that draws the same random numbers at each call, as those that choose calibration images."""

    def call(*args: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            return function(*args)

    return call


def add_skipped(recipe: dict[str, Any], layers: tuple[str, ...]) -> None:
    """Add layers to those that a run's checkpoints say are skipped, so that the network is built again as it is."""
    params = recipe.setdefault("quantization_params", {})
    skipped = list(QuantizationParams.from_recipe(params).skip_modules)
    params.pop("skip_modules", None)
    params.setdefault("selective_quantizer_params", {})["skip_modules"] = [*skipped, *layers]


def resumed(trainer: Trainer, training_params: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the checkpoint of the run that is resumed; None where none is."""
    if not training_params.get("resume"):
        return None
    run_id = training_params.get("run_id")  # None: the latest run
    folder = Path(get_checkpoints_dir_path(trainer.experiment_name, trainer.ckpt_root_dir, run_id))
    return checkpoints.read(find_run(folder, LATEST) / LATEST)


def kept_in(state: Mapping[str, Any], params: QuantizationParams) -> tuple[str, ...]:
    """Return what `max_drop` keeps in float32 in a checkpoint."""
    recipe = state.get("recipe", {})
    skipped = QuantizationParams.from_recipe(recipe.get("quantization_params")).skip_modules
    return skipped[len(params.skip_modules) :]


def refuse_other_quantizers(network: nn.Module, state: Mapping[str, Any]) -> None:
    """Refuse to go on with a run whose network has quantisers elsewhere: SuperGradients would load what fits.

    Raises:
        SgResnetsError: it has.
    """
    mine = {key for key in network.state_dict() if key.endswith(".amax")}
    others = {key.removeprefix("student.") for key in state["net"] if key.endswith(".amax")}
    if mine != others:
        one = min(mine ^ others, key=lambda key: ("weight" not in key, key)).removesuffix(".amax")
        raise SgResnetsError(
            f"the run that is resumed has other quantisers ({one}): leave quantization_params as they were, or "
            "quantise anew with resume=False"
        )


def fine_tune(
    trainer: Trainer, networks: Mapping[str, nn.Module], training_params: Mapping[str, Any], **loaders: Any
) -> tuple[nn.Module, Path]:
    """Train a copy with the quantisers in, by SuperGradients' Trainer; with a distillation loss the float network is
    the teacher. Returns the network of the last epoch, its moving average if there is one, and the run's folder."""
    student = copy.deepcopy(networks["ptq"])
    loss = training_params.get("loss")
    if isinstance(loss, str | Mapping) and "DistillationLoss" in loss:
        trainer = KDTrainer(experiment_name=trainer.experiment_name, ckpt_root_dir=trainer.ckpt_root_dir)
        student = RegisteredDistiller(HpmStruct(taps=None), student, copy.deepcopy(networks["fp32"]))
    trainer.train(model=student, training_params=training_params, **loaders)
    final: Any = unwrap_model(trainer.ema_model.ema if trainer.ema_model is not None else trainer.net)
    final = final.student if isinstance(final, RegisteredDistiller) else final
    return final.eval(), Path(trainer.checkpoints_dir_path)


def write_calibrated(quantization: Quantization, figures: Mapping[str, float]) -> None:
    """Write the checkpoint of a network that was calibrated, and not trained."""
    run = current_run()
    state: dict[str, Any] = {
        "net": quantization.networks["ptq"].state_dict(),
        "epoch": 0,
        "processing_params": preprocessing_of(quantization.loader),
    }
    if run is not None:
        state["recipe"] = run.recipe
        watched = run.recipe.get("training_hyperparams", {}).get("metric_to_watch")
        if watched in figures:
            state["acc"] = float(figures[watched])
    checkpoints.write(state, quantization.folder / BEST)


def complete(recipe: Any) -> None:
    """Put into a recipe what `quantize_from_config` does not see to itself, and refuse what cannot be meant.

    Raises:
        SgResnetsError: no weights to start from, a wrong quantisation parameter, several processes.
    """
    QuantizationParams.from_recipe(recipe.get("quantization_params"))
    check_export_keys(recipe.get("export_params") or {})
    start = recipe.checkpoint_params.get("checkpoint_path") or recipe.checkpoint_params.get("pretrained_weights")
    if not start and not recipe.get("smoke"):
        raise SgResnetsError(
            "quantisation starts from a trained network: set checkpoint_params.checkpoint_path=FILE_OR_RUN or "
            "checkpoint_params.pretrained_weights=KIND"
        )
    if recipe.get("multi_gpu") not in (None, False, "Off", "OFF") or recipe.get("num_gpus") not in (None, -1, 0, 1):
        raise SgResnetsError(
            f"multi_gpu={recipe.multi_gpu}, num_gpus={recipe.num_gpus}: quantisation runs in one process"
        )
    if recipe.training_hyperparams.get("finetune"):
        raise SgResnetsError("training_hyperparams.finetune: leave it out: quantised fine-tuning trains all weights")
    with open_dict(recipe):
        recipe.num_gpus = 1
        add_calibration_data(recipe)
        if recipe.get("smoke") and not start:
            recipe.checkpoint_params.checkpoint_path = _untrained_checkpoint(recipe)
        add_distillation(recipe)


def add_distillation(recipe: Any) -> None:
    """With `distillation=METHOD` the float network teaches: put the loss for it into the recipe."""
    method, training = OmegaConf.select(recipe, "distillation.method"), recipe.training_hyperparams
    if not method or "DistillationLoss" in training.loss:
        return
    criterion = OmegaConf.to_container(training.criterion_params) or {}
    task = {training.loss: criterion} if isinstance(training.loss, str) else training.loss
    weights = {key: recipe.distillation[key] for key in ("weight", "task_weight", "warmup_epochs")}
    training.loss = {"DistillationLoss": {"task": task, "method": method, **weights}}
    training.criterion_params = {}


def _untrained_checkpoint(recipe: Any) -> str:
    """Return a checkpoint that knows nothing, to try the recipe out with."""
    network = models.get(recipe.architecture, arch_params=OmegaConf.to_container(recipe.arch_params, resolve=True))
    path = Path(tempfile.mkdtemp(), "untrained.pth")
    checkpoints.write({"net": network.state_dict()}, path)
    return str(path)


def ptq(
    original: Callable[..., Any],
    self: Trainer,
    *,
    model: nn.Module,
    valid_loader: DataLoader,
    valid_metrics_list: Any = None,
    calib_loader: DataLoader | None = None,
    quantization_params: Any = None,
    export_params: Any = None,
    deepcopy_model_for_export: Any = None,  # in SuperGradients' signature; ignored there too
) -> QuantizationResult:
    """Calibrate a network, write its files, and report."""
    params, network = QuantizationParams.from_recipe(quantization_params), float_network(self, model)
    export = export_settings(export_params, network, valid_loader)
    loader = valid_loader if calib_loader is None else calib_loader
    networks, within = calibrated(network, loader, params, valid_loader)
    folder = Path(get_checkpoints_dir_path(self.experiment_name, self.ckpt_root_dir, generate_run_id()))
    quantization = Quantization(self.experiment_name, params, valid_loader, networks, within, folder, export)
    figures = evaluate_network(self, networks["ptq"], valid_loader, valid_metrics_list or self.valid_metrics)
    write_calibrated(quantization, figures)
    return quantization.finish(figures)


def qat(
    original: Callable[..., Any],
    self: Trainer,
    *,
    model: nn.Module,
    train_loader: DataLoader,
    valid_loader: DataLoader,
    calib_loader: DataLoader | None = None,
    training_params: Any = None,
    quantization_params: Any = None,
    additional_qat_configs_to_log: Any = None,
    valid_metrics_list: Any = None,
    export_params: Any = None,
) -> QuantizationResult:
    """Calibrate a network, fine-tune it with the quantisers in, write its files, and report."""
    params, network = QuantizationParams.from_recipe(quantization_params), float_network(self, model)
    export = export_settings(export_params, network, valid_loader)
    if training_params is None:
        raise SgResnetsError("qat trains the network: give training_params, as for Trainer.train")
    loader, begun = valid_loader if calib_loader is None else calib_loader, resumed(self, training_params)
    kept = None if begun is None else kept_in(begun, params)
    networks, within = calibrated(network, loader, params, valid_loader, kept)
    if begun is not None:
        refuse_other_quantizers(networks["ptq"], begun)
    networks["qat"], folder = fine_tune(
        self,
        networks,
        training_params,
        train_loader=train_loader,
        valid_loader=valid_loader,
        additional_configs_to_log=additional_qat_configs_to_log,
    )
    metrics = valid_metrics_list or training_params["valid_metrics_list"]
    figures = evaluate_network(self, networks["qat"], valid_loader, metrics)
    return Quantization(self.experiment_name, params, valid_loader, networks, within, folder, export).finish(figures)


def install_nothing() -> None:
    """Take the place of a pip install at run time."""


_INSTALLER = "import_pytorch_quantization_or_install"
REPAIRS = (
    Repair(
        "int8",
        "ptq and qat pip-install a package that is gone, and fail; no batch-norm is folded, no ONNX file is fast",
        [
            Rebind("ExportParams", ExportParams, OnnxExportParams),
            Rebind(_INSTALLER, getattr(sg_trainer, _INSTALLER), install_nothing),
            Patch(Trainer, "ptq", ptq),
            Patch(Trainer, "qat", qat),
        ],
    ),
)
