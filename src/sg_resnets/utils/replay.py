"""Work on a GPU that is recorded once and replayed in one launch, however many it takes: small networks wait for
launches, not for arithmetic."""

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

import torch
from torch import Tensor

WARM_UP = 2  # calls before the recording: libraries make their plans in the first


def record(work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """Record what `work` launches; returns what replays it, and what it returned: tensors that each replay fills. Work
    that waits for the GPU cannot be recorded, and leaves CUDA unusable."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        made = work()
    return graph.replay, made


class Replayed:
    """A function of tensors that launches the same work whenever their shapes, and `settings`, are the same.

    A recording reads its inputs from tensors of its own, which each call fills. `settings` are all else that decides
    what the function does, among it where in memory the tensors lie that it reads or changes beside its inputs.
    """

    def __init__(self, function: Callable[..., Any], device: torch.device) -> None:
        self.function, self.device = function, device
        self.recorded: Any = None  # the settings of the recording
        self.asked: Any = None  # those of the last calls that were not replays, and how many they were
        self.calls = 0

    def __call__(self, inputs: Sequence[Tensor], settings: Any = None) -> Any:
        """Return what the function returns; of a replay, tensors that the next one overwrites."""
        settings = settings, [(tensor.shape, tensor.dtype) for tensor in inputs]
        if self.recorded != settings:
            self.asked, self.calls = settings, self.calls + 1 if self.asked == settings else 1
            if self.calls <= WARM_UP:
                return self.function(*(tensor.to(self.device, non_blocking=True) for tensor in inputs))
            self.own = [tensor.to(self.device, copy=True) for tensor in inputs]
            self.replay, self.made = record(lambda: self.function(*self.own))
            self.recorded = settings
        here = [tensor.device.type == self.device.type for tensor in inputs]
        if any(here):
            torch._foreach_copy_(list(compress(self.own, here)), list(compress(inputs, here)))
        for own, tensor, is_here in zip(self.own, inputs, here, strict=True):
            if not is_here:
                own.copy_(tensor, non_blocking=True)
        self.replay()
        return self.made
