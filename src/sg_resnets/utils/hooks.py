"""Forward hooks: what the modules of a network give while it runs. The network itself is not changed."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

Watch = Callable[[str, nn.Module, tuple[Any, ...], Any], Any]


@contextmanager
def watched(network: nn.Module, paths: Iterable[str], watch: Watch) -> Iterator[None]:
    """While open, call `watch(path, module, inputs, output)` after each run of the modules at these paths; what it
    returns, unless None, takes the output's place."""
    handles = []
    try:
        for path in paths:
            module = network.get_submodule(path)
            handles.append(module.register_forward_hook(lambda m, x, y, path=path: watch(path, m, x, y)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def outputs_of(network: nn.Module, paths: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that is filled, while the network runs, with the output of the module at each path, copied: the
    next module may write into it, as an in-place ReLU does. Of several runs the last one's is kept."""
    outputs: dict[str, Tensor] = {}

    def keep(path: str, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        outputs[path] = output.clone()

    with watched(network, paths, keep):
        yield outputs
