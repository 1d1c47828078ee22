"""Calibration, all of post-training quantisation: a few batches go through the float network, and each quantiser gets
its range."""

import logging
from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch
from torch import nn

from sg_resnets.quantization.calibrators import HistogramCalibrator, MaxCalibrator
from sg_resnets.quantization.fake_quantize import Quantizer, quantizers
from sg_resnets.quantization.params import QuantizationParams
from sg_resnets.utils.errors import SgResnetsError

logger = logging.getLogger(__name__)


@torch.no_grad()
def calibrate(network: nn.Module, loader: Iterable[Any], params: QuantizationParams) -> None:
    """Set `amax` of every quantiser from the weights, and from the first `num_calib_batches` batches of `loader`.

    Raises:
        SgResnetsError: the loader has no batch, or a tensor has NaN or infinity.
    """
    device = next(network.parameters()).device
    everything = quantizers(network)
    batches = params.num_calib_batches or max(1, 512 // (getattr(loader, "batch_size", None) or 1))
    for name, quantizer in everything.items():
        quantizer.enabled = False
        weights = name.endswith("weight_quantizer")
        method = params.calibrator_w if weights else params.calibrator_i
        if method == "max":
            quantizer.calibrator = MaxCalibrator(axis=0 if quantizer.channels else None)
        else:
            quantizer.calibrator = HistogramCalibrator(
                params.histogram_calib_method, params.percentile, quantizer.levels
            )
        if weights:
            quantizer.calibrator.collect(network.get_parameter(name.removesuffix("_quantizer")))
            _finish(name, quantizer)
    seen = 0
    for batch in islice(iter(loader), batches):
        images = batch[0] if isinstance(batch, tuple | list) else batch
        network(images.to(device))
        seen += 1
    if not seen:
        raise SgResnetsError(
            "there is no calibration data: the loader gave no batch; set a batch_size of at most its number of images"
        )
    for name, quantizer in everything.items():
        if quantizer.calibrator is not None:
            _finish(name, quantizer)
        quantizer.enabled = True
    if params.verbose:
        for name, quantizer in everything.items():
            logger.info(f"{name}: amax {quantizer.amax.max().item():.4g}, {quantizer.extra_repr()}")


def _finish(name: str, quantizer: Quantizer) -> None:
    assert quantizer.calibrator is not None
    amax = quantizer.calibrator.amax()
    if amax is not None and not amax.isfinite().all():
        raise SgResnetsError(
            f"calibration saw NaN or infinity at {name}: check that the float checkpoint evaluates well"
        )
    quantizer.amax.copy_(torch.zeros(()) if amax is None else amax)  # a tensor that was 0 throughout
    quantizer.calibrator = None
