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

    A recording reads its inputs from tensors of its own, which each call fills. What the function keeps or changes
    beside its inputs must stay where it is in memory. `settings` are all else that decides what it does. A copy of
    this object records anew.
    """

    def __init__(self, function: Callable[..., Any], device: torch.device) -> None:
        self.function, self.device = function, device
        self.settings: Any = None
        self.calls = 0
        self.recording: tuple[list[Tensor], Callable[[], None], Any] | None = None

    def __reduce__(self) -> Any:
        return Replayed, (self.function, self.device)

    def __call__(self, inputs: Sequence[Tensor], settings: Any = None) -> Any:
        """Return what the function returns; of a replay, tensors that the next one overwrites."""
        settings = settings, tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        if settings != self.settings:
            self.settings, self.calls, self.recording = settings, 0, None
        self.calls += 1
        if self.recording is None and self.calls > WARM_UP:
            own = [tensor.to(self.device, copy=True) for tensor in inputs]
            self.recording = own, *record(lambda: self.function(*own))
        if self.recording is None:
            return self.function(*(tensor.to(self.device, non_blocking=True) for tensor in inputs))
        kept, replay, made = self.recording
        here = [tensor.device.type == self.device.type for tensor in inputs]
        if any(here):
            torch._foreach_copy_(list(compress(kept, here)), list(compress(inputs, here)))
        for mine, tensor, is_here in zip(kept, inputs, here, strict=True):
            if not is_here:
                mine.copy_(tensor, non_blocking=True)
        replay()
        return made
