"""Looking at a network while it runs, by forward hooks, and in evaluation mode. It is left as it was."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from sg_resnets.utils.errors import SgResnetsError

Watch = Callable[[str, nn.Module, tuple[Any, ...], Any], Any]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """While open, the network is in evaluation mode; then each of its modules is in the mode that it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


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
    next module may write into it, as an in-place ReLU does. Of several runs the last one's is kept.

    Raises:
        SgResnetsError: a module gives something else than a tensor.
    """
    outputs: dict[str, Tensor] = {}

    def keep(path: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, Tensor):
            raise SgResnetsError(f"'{path}' gives a {type(output).__name__}: name a module that gives one tensor")
        outputs[path] = output.clone()

    with watched(network, paths, keep):
        yield outputs
