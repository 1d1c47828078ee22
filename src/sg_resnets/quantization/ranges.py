"""What rounding to integers does to a tensor, and where each calibration method ends its range."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sg_resnets.quantization.calibrators import HistogramCalibrator, MaxCalibrator
from sg_resnets.quantization.fake_quantize import Quantizer
from sg_resnets.quantization.params import HISTOGRAM_METHODS
from sg_resnets.utils.plots import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def ranges(x: Tensor) -> dict[str, float]:
    """`amax` by method, for a tensor that is never below 0."""
    calibrators: dict[str, MaxCalibrator | HistogramCalibrator] = {"max": MaxCalibrator()}
    for method in HISTOGRAM_METHODS:
        calibrators[method] = HistogramCalibrator(method, 99.99, levels=255)
    for calibrator in calibrators.values():
        calibrator.collect(x)
    return {method: float(calibrator.amax() or 0.0) for method, calibrator in calibrators.items()}


def draw_ranges(x: Tensor, bits: int = 3) -> "Figure":
    """Return a figure: the staircase of `bits` bits, the error it makes, and the values of `x`, never below 0, with
    the end of each method's range."""
    ends = ranges(x)
    quantizer = Quantizer(0, 2**bits - 1, 0)
    quantizer.amax.fill_(ends["percentile"])
    line = torch.linspace(0, 1.2 * ends["percentile"], 1000)
    stairs = quantizer(line)
    figure = new_figure(10, 3.2)
    steps, errors, values = figure.subplots(1, 3)
    steps.plot(line, line, color="0.7", label="x")
    steps.plot(line, stairs, color=COLOURS[0], label=f"rounded to {2**bits} values")
    errors.plot(line, stairs - line, color=COLOURS[1], label="error")
    values.hist(x.flatten().numpy(), bins=200, log=True, color="0.7")
    for colour, (method, amax) in zip(COLOURS, ends.items(), strict=False):
        values.axvline(amax, color=colour, label=f"{method}: {amax:.2f}")
    for axes, label in ((steps, "rounded"), (errors, "rounded - x"), (values, "how often")):
        axes.set(xlabel="x", ylabel=label)
        axes.legend(fontsize=8, loc="upper left" if axes is steps else "lower left")
        axes.spines[["top", "right"]].set_visible(False)
    return figure
