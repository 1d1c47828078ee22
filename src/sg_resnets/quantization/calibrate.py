"""Calibration, all of post-training quantisation: a few batches go through the float network, and each quantiser gets
its range."""

import logging
from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from sg_resnets.quantization.calibrators import Calibrator, HistogramCalibrator, MaxCalibrator
from sg_resnets.quantization.fake_quantize import Quantizer, check_float32, quantizers
from sg_resnets.quantization.params import QuantizationParams
from sg_resnets.utils.errors import SgResnetsError

logger = logging.getLogger(__name__)


@torch.no_grad()
def calibrate(network: nn.Module, loader: Iterable[Any], params: QuantizationParams) -> None:
    """Set `amax` of every quantiser from the weights, and from the first `num_calib_batches` batches of `loader`; of
    none if something is wrong.

    Raises:
        SgResnetsError: the loader has no batch, a tensor has NaN or infinity, or weights are not float32.
    """
    check_float32(network)
    device = next(network.parameters()).device
    everything, found = quantizers(network), dict[str, Tensor]()
    batches = params.num_calib_batches or max(1, 512 // (getattr(loader, "batch_size", None) or 1))
    try:
        for name, quantizer in everything.items():
            weights = name.endswith("weight_quantizer")
            calibrator = _calibrator(quantizer, params.calibrator_w if weights else params.calibrator_i, params)
            quantizer.enabled = False
            if weights:
                calibrator.collect(network.get_parameter(name.removesuffix("_quantizer")))
                found[name] = _range(name, calibrator)
            else:
                quantizer.calibrator = calibrator
        seen = 0
        for batch in islice(iter(loader), batches):
            images = batch[0] if isinstance(batch, tuple | list) else batch
            network(images.to(device))
            seen += 1
        if not seen:
            raise SgResnetsError(
                "there is no calibration data: the loader gave no batch; set a batch_size of at most its number of "
                "images"
            )
        for name, quantizer in everything.items():
            if quantizer.calibrator is not None:
                found[name] = _range(name, quantizer.calibrator)
    finally:
        for quantizer in everything.values():
            quantizer.enabled, quantizer.calibrator = True, None
    for name, quantizer in everything.items():
        quantizer.amax.copy_(found[name])
        if params.verbose:
            logger.info(f"{name}: amax {quantizer.amax.max().item():.4g}, {quantizer.extra_repr()}")


def _calibrator(quantizer: Quantizer, method: str, params: QuantizationParams) -> Calibrator:
    if method == "max":
        return MaxCalibrator(axis=0 if quantizer.channels else None)
    return HistogramCalibrator(params.histogram_calib_method, params.percentile, quantizer.high - quantizer.zero_point)


def _range(name: str, calibrator: Calibrator) -> Tensor:
    amax = calibrator.amax()
    if amax is not None and not amax.isfinite().all():
        raise SgResnetsError(
            f"calibration saw NaN or infinity at {name}: check that the float checkpoint evaluates well"
        )
    return torch.zeros(()) if amax is None else amax  # a tensor that was 0 throughout
