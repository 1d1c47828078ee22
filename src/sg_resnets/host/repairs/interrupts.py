"""An end that comes from outside, at any moment: Ctrl-C, SIGTERM, a kill. What was done is not lost."""

import builtins
from collections.abc import Callable, Iterable, Iterator
from signal import SIGINT
from typing import Any

from super_gradients.common.abstractions.abstract_logger import get_logger
from super_gradients.common.environment.ddp_utils import get_world_size
from super_gradients.training.sg_trainer import sg_trainer
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils.callbacks import Callback, PhaseContext

from sg_resnets.data.order import end_workers
from sg_resnets.host.current_run import current_run
from sg_resnets.host.divergence import train_on
from sg_resnets.host.patching import Patch, Put, Repair
from sg_resnets.host.preemption import Stop, signals_noted
from sg_resnets.host.progress import Epoch
from sg_resnets.runs.find import LATEST
from sg_resnets.utils.errors import LoaderError

logger = get_logger(__name__)


class EndEvaluation(Callback):
    """Ends an evaluation when a signal has come: an epoch's training is in memory, and is written then. Of several
    processes none leaves the others alone in it, who wait for its figures: they end together, after it."""

    def __init__(self, stop: Stop):
        self.stop = stop

    def on_validation_batch_end(self, context: PhaseContext) -> None:
        if self.stop.signal is not None and get_world_size() == 1:
            raise KeyboardInterrupt

    def on_test_batch_end(self, context: PhaseContext) -> None:
        self.on_validation_batch_end(context)


def train_to_the_signal(
    original: Callable[..., Any], self: Trainer, model: Any, training_params: Any = None, *args: Any, **kwargs: Any
) -> Any:
    """Train until the end or a signal, with which the command ends; after Ctrl-C a program that has called the Trainer
    itself goes on.

    Raises:
        SystemExit: a signal has ended the training.
    """
    training_params = dict(training_params or {})
    with signals_noted() as stop:
        callbacks = list(training_params.get("phase_callbacks") or [])
        training_params["phase_callbacks"] = [*callbacks, EndEvaluation(stop)]
        result = train_on(self, lambda params: original(self, model, params, *args, **kwargs), training_params, stop)
    for loader in (self.train_loader, self.valid_loader):
        end_workers(loader)
    if (progress := getattr(self, "progress", None)) is not None:
        progress.end_workers()
        if not self.ddp_silent_mode and (said := progress.waits.line(self.train_loader)):
            logger.info(said)
    if stop.signal is not None:
        stop.pass_on()
        if current_run() is not None or stop.signal != SIGINT:
            raise SystemExit(stop.exit_code)
    return result


def set_rate(original: Callable[..., None], self: Trainer) -> None:
    """Halve the rate as often as the run was rolled back, when its checkpoint is read and nothing else is built."""
    original(self)
    self.progress.set_rate()


def begin(original: Callable[..., None], self: Trainer, context: PhaseContext, silent_mode: bool) -> None:
    """Take up what the checkpoint says, when all is built and nothing has been trained."""
    original(self, context, silent_mode)
    self.progress.begin(context)


def train_from_place(original: Callable[..., Any], self: Trainer, context: Any, silent_mode: bool = False) -> Any:
    """Train an epoch from the batch on that the checkpoint stopped before."""
    loader, epoch = self.train_loader, self.progress.epoch(context)
    if epoch.resumed is not None and epoch.place.batch >= epoch.expected:
        return self.progress.finish_epoch(epoch.resumed)
    self.train_loader = epoch
    try:
        return original(self, context, silent_mode)
    except KeyboardInterrupt:
        self.progress.stop.note_interrupt()
        raise
    finally:
        self.train_loader = loader


def number_batches(iterable: Iterable[Any], start: int = 0) -> Iterator[tuple[int, Any]]:
    """Stand for `enumerate` in the Trainer, which has the batches in a progress bar: an epoch goes on with its own
    numbers, and a worker that dies is a line.

    Raises:
        LoaderError: the system has ended a worker.
    """
    epoch = getattr(iterable, "iterable", None)
    if isinstance(epoch, Epoch):
        start = iterable.initial = iterable.n = epoch.place.batch  # type: ignore[attr-defined]
    try:
        yield from builtins.enumerate(iterable, start)
    except (RuntimeError, ConnectionError, EOFError) as error:
        words = dead_worker(error) if getattr(epoch, "num_workers", 0) else None
        if words is None:
            raise
        raise LoaderError(words) from error


def dead_worker(error: Exception) -> str | None:
    """Return what to say of an error, if it is that the system has ended a worker of a loader. PyTorch's is raised by a
    signal, wherever the process is then."""
    of_a_worker = "DataLoader worker" in str(error) or isinstance(error, ConnectionError | EOFError)
    if not of_a_worker or "Original Traceback" in str(error):
        return None
    memory, shared = (
        "there was too little memory",
        "shared memory is full (/dev/shm; docker run --shm-size=8g gives more)",
    )
    known = shared if "Bus error" in str(error) else memory if "signal" in str(error) else ""
    return (
        f"a worker of the loader was ended by the system, as a rule because {known or f'{memory}, or {shared}'}: try a "
        "smaller num_workers; what was saved is in the run's folder, to be resumed"
    )


def save_epoch(original: Callable[..., Any], self: Trainer, *args: Any, **kwargs: Any) -> Any:
    """Save an epoch that was trained, if its validation does not come to its end."""
    try:
        return original(self, *args, **kwargs)
    except (Exception, KeyboardInterrupt) as end:
        if isinstance(end, KeyboardInterrupt):
            self.progress.stop.note_interrupt()
        self.progress.save()
        raise


class LatestLast:
    """A logger that keeps `ckpt_latest.pth` back: once it is written, the epoch is over."""

    def __init__(self, logger: Any):
        self.logger = logger
        self.state: dict[str, Any] | None = None

    def add_checkpoint(self, tag: str, state_dict: Any, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint, but for the one that is kept back."""
        if tag == LATEST:
            self.state = dict(state_dict)
        else:
            self.logger.add_checkpoint(tag, state_dict, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.logger, name)


def commit_last(original: Callable[..., None], self: Trainer, *args: Any, **kwargs: Any) -> None:
    """Write what a run is resumed from after all else of an epoch: a kill in between begins the epoch's end again."""
    logger = self.sg_logger
    self.sg_logger = held = LatestLast(logger)
    try:
        original(self, *args, **kwargs)
    finally:
        self.sg_logger = logger
    if held.state is not None:
        self.progress.end_epoch(held.state, logger)


REPAIRS = (
    Repair(
        "interrupt",
        "Ctrl-C before the first epoch's end leaves no checkpoint, SIGTERM never; a stopped run ends with exit code "
        "0, and in a sweep the next job begins; a killed run loses its epoch, and the next ones differ",
        [
            Patch(Trainer, "train", train_to_the_signal),
            Patch(Trainer, "_load_checkpoint_to_model", set_rate),
            Patch(Trainer, "_maybe_eval_before_resume", begin),
            Patch(Trainer, "_train_epoch", train_from_place),
            Patch(Trainer, "_validate_epoch", save_epoch),
            Patch(Trainer, "_save_checkpoint", commit_last),
            Put(sg_trainer, "enumerate", number_batches),
        ],
    ),
)
