"""Calibrators: find `amax`, the largest magnitude that a tensor's eight bits have to reach. Their memory is fixed,
however many batches they see.

Methods and names are those of Wu et al., 'Integer Quantization for Deep Learning Inference' (2020), section 4.2.
"""

import math

import torch
from torch import Tensor

BINS = 2048


class MaxCalibrator:
    """The largest `|x|` seen: of the whole tensor, or of each slice along `axis`."""

    def __init__(self, axis: int | None = None) -> None:
        self.axis = axis
        self.largest: Tensor | None = None

    def collect(self, x: Tensor) -> None:
        magnitude = x.detach().abs()
        largest = magnitude.amax() if self.axis is None else magnitude.transpose(0, self.axis).flatten(1).amax(1)
        self.largest = largest if self.largest is None else torch.maximum(self.largest, largest)

    def amax(self) -> Tensor | None:
        return self.largest


class HistogramCalibrator:
    """Counts `|x|` in equal bins. A value beyond the last bin makes the bins twice as wide, each the sum of two, as
    often as it takes: so no count is lost, and there are always 2 * BINS.

    Args:
        method: "percentile", "mse" or "entropy".
        percentile: for "percentile", in 0..100.
        levels: steps of the magnitude: 127 for signed tensors, 255 for others.
    """

    def __init__(self, method: str, percentile: float, levels: int) -> None:
        self.method, self.percentile, self.levels = method, percentile, levels
        self.width = 0.0
        self.counts: Tensor | None = None

    def collect(self, x: Tensor) -> None:
        magnitude = x.detach().float().abs()
        largest = magnitude.amax().item()
        if not math.isfinite(largest + self.width):
            self.width = math.nan
        if math.isnan(self.width) or (largest == 0.0 and self.counts is None):
            return
        if self.counts is None:
            self.width, self.counts = largest / BINS, torch.zeros(2 * BINS, dtype=torch.float64)
        while largest > self.width * len(self.counts):
            self.counts = torch.cat([self.counts.view(-1, 2).sum(1), torch.zeros(BINS, dtype=torch.float64)])
            self.width *= 2
        top = self.width * len(self.counts)
        self.counts += torch.histc(magnitude, len(self.counts), 0.0, top).double().cpu()

    def amax(self) -> Tensor | None:
        if math.isnan(self.width):
            return torch.tensor(math.nan)
        if self.counts is None:
            return None
        value = {"percentile": self._by_percentile, "mse": self._by_squared_error, "entropy": self._by_divergence}
        return torch.tensor(value[self.method]() * self.width, dtype=torch.float32)

    def _used(self) -> int:
        """Bins up to the last that is not empty."""
        assert self.counts is not None
        return int(self.counts.nonzero().max()) + 1

    def _by_percentile(self) -> float:
        assert self.counts is not None
        share = self.counts.cumsum(0) / self.counts.sum()
        return float(torch.searchsorted(share, self.percentile / 100).clamp(max=self._used() - 1)) + 1

    def _by_squared_error(self) -> float:
        """The range with the smallest mean squared error of quantising what was counted."""
        assert self.counts is not None
        used = self._used()
        middles, counts = torch.arange(used) + 0.5, self.counts[:used]
        ranges = torch.linspace(used / 100, used, 200, dtype=torch.float64)
        steps = (ranges / self.levels).unsqueeze(1)
        quantised = (middles / steps).round().clamp(max=self.levels) * steps
        errors = ((quantised - middles).square() * counts).sum(1)
        return float(ranges[errors.argmin()])

    def _by_divergence(self) -> float:
        """The range whose `levels` + 1 steps tell most of the distribution (Migacz, '8-bit Inference with TensorRT',
        2017): the clipped counts against the same counts spread evenly over the filled bins of each step."""
        assert self.counts is not None
        counts, used = self.counts.clone(), self._used()
        counts[0] = counts[1] if used > 1 else counts[0]  # the zeros of a ReLU say nothing of the range
        best, smallest = used, float("inf")
        for size in (*range(min(self.levels + 1, used), used, max(1, used // 128)), used):
            reference = counts[:size].clone()
            reference[-1] += counts[size:used].sum()
            step = torch.arange(size) * (self.levels + 1) // size
            filled = (counts[:size] > 0).double()
            total = torch.zeros(self.levels + 1, dtype=torch.float64).index_add_(0, step, counts[:size])
            places = torch.zeros_like(total).index_add_(0, step, filled).clamp(min=1)
            spread = (total / places)[step] * filled
            p, q = reference / reference.sum(), spread / spread.sum().clamp(min=1e-30)
            known = p > 0
            divergence = float((p[known] * (p[known] / q[known].clamp(min=1e-12)).log()).sum())
            if divergence < smallest:
                best, smallest = size, divergence
        return float(best)


Calibrator = MaxCalibrator | HistogramCalibrator
