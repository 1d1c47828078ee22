"""Where a training is, between any two batches: written into `ckpt_latest.pth`, and taken up from it to the last bit.

A checkpoint of SuperGradients' own holds network, average, optimiser and schedule at an epoch's end. Beside them stands
`progress`: epoch and batch to go on with, random numbers, sums of the loss and of the metrics, gradients that wait for
others, the best figure, and what the callbacks have changed in themselves.
"""

import copy
import pickle
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from super_gradients.common.abstractions.abstract_logger import get_logger
from super_gradients.common.environment.ddp_utils import broadcast_from_master, get_local_rank, get_world_size
from super_gradients.training.metrics.metric_utils import get_metrics_results_tuple, get_train_loop_description_dict
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils.callbacks import PhaseContext
from super_gradients.training.utils.checkpoint_utils import get_scheduler_state
from super_gradients.training.utils.sg_trainer_utils import update_monitored_values_dict
from super_gradients.training.utils.utils import AverageMeter, tensor_container_to_device, unwrap_model
from torchmetrics import Metric

from sg_resnets.data.order import Place, PlacedLoader
from sg_resnets.host.current_run import as_data, current_run
from sg_resnets.host.preemption import Stop
from sg_resnets.host.waits import Waits
from sg_resnets.runs import checkpoints
from sg_resnets.runs.find import FINISHED, LATEST
from sg_resnets.runs.retention import Kept
from sg_resnets.training.intervals import Interval
from sg_resnets.utils.files import make_folder

SECONDS_BETWEEN_QUESTIONS = 0.5  # to the other processes: has one of them been asked to stop?
logger = get_logger(__name__)


@dataclass
class Progress:
    """One call of `Trainer.train`.

    Attributes:
        trainer: whose.
        stop: what the process was asked for.
        interval: after how long a checkpoint is written within an epoch.
        resumed: the `progress` of the checkpoint that is taken up; None at a start.
        unsaved: what an interrupted validation leaves: the state at its epoch's last batch.
        rollbacks: how often the run was sent back to a checkpoint with half the rate.
        saves_start: whether a new run is saved before its first batch.
        check: refuses what is not to be saved.
        kept: which epochs' checkpoints are kept.
        waits: how long the loop has waited for its batches.
    """

    trainer: Trainer
    stop: Stop
    interval: Interval
    resumed: Mapping[str, Any] | None = None
    unsaved: dict[str, Any] | None = None
    rollbacks: int = 0
    saves_start: bool = False
    check: Callable[[PhaseContext], None] | None = None
    kept: Kept = field(default_factory=Kept)
    waits: Waits = field(default_factory=Waits)
    context: PhaseContext = None
    _asked_rate: Any = None  # that of the recipe, before any rollback
    _slower: float = 1.0  # what the rates in the checkpoint are still to be multiplied with
    _has_saved: bool = False
    _loader: PlacedLoader | None = None
    _callbacks: dict[str, dict[str, bytes]] = field(default_factory=dict)  # as they were when training began
    _steps: int = 0
    _asked: tuple[int, float] = field(default_factory=lambda: (0, time.monotonic()))  # at which step, and when
    _next_question: int = 1

    def end_workers(self) -> None:
        """End the workers of the training loader, which are kept until then."""
        if self._loader is not None:
            self._loader.end_workers()

    # At the start.

    def begin(self, context: PhaseContext) -> None:
        """Note how the callbacks begin, and take up what the checkpoint says."""
        self.context = context
        self._callbacks = {name: _pickled(state) for name, state in self._states().items()}
        trainer, run = self.trainer, current_run()
        if run is not None and not trainer.ddp_silent_mode:
            run.folder = Path(trainer.checkpoints_dir_path)
            (run.folder / FINISHED).unlink(missing_ok=True)
        self._scale_loaded_rates()
        self._set_asked_rates()
        self.resumed = self._loaded() or None
        self.kept = Kept.of(trainer.training_params.to_dict(), self._loaded().get("kept"))
        if self.saves_start and not trainer.load_checkpoint:
            self.unsaved = self.state(trainer.start_epoch, 0, False)
            self.save()
        if self.resumed is None:
            return
        self._load_callbacks(self.resumed)
        for parameter, gradient in zip(trainer.net.parameters(), self.resumed["gradients"], strict=False):
            parameter.grad = None if gradient is None else gradient.to(parameter.device)

    def _loaded(self) -> Mapping[str, Any]:
        trainer = self.trainer
        is_resumed = trainer.load_checkpoint and not trainer.load_weights_only
        return trainer.checkpoint.get("progress") or {} if is_resumed else {}

    def set_rate(self) -> None:
        """Halve the recipe's rate as often as the run was rolled back, before optimiser and schedule are built. A
        resume that asks for another rate gets it."""
        params, loaded = self.trainer.training_params, self._loaded()
        self._asked_rate = as_data(params.initial_lr)
        before = loaded.get("rollbacks", 0) if loaded.get("initial_lr") == self._asked_rate else 0
        self.rollbacks = max(self.rollbacks, before)
        self._slower = 0.5 ** (self.rollbacks - before)
        if self.rollbacks:
            params.initial_lr = _scaled(params.initial_lr, 0.5**self.rollbacks)

    def _scale_loaded_rates(self) -> None:
        trainer, schedule = self.trainer, self.trainer._torch_lr_scheduler
        if self._slower == 1.0 or not trainer.load_checkpoint:
            return
        for group in trainer.optimizer.param_groups:
            group.update({key: group[key] * self._slower for key in _RATES if key in group})
        for key in ("base_lrs", "_last_lr"):
            if schedule is not None and hasattr(schedule, key):
                setattr(schedule, key, [rate * self._slower for rate in getattr(schedule, key)])

    def _set_asked_rates(self) -> None:
        """Set the rates that a resume asks for, where there is no schedule that would."""
        params = self.trainer.training_params
        if not self._loaded() or self._loaded()["initial_lr"] == self._asked_rate or params.lr_mode is not None:
            return
        rates = params.initial_lr
        for group in self.trainer.optimizer.param_groups:
            group["lr"] = rates.get(group["name"], rates["default"]) if isinstance(rates, Mapping) else rates

    def way_back(self) -> dict[str, Any]:
        """Return the training parameters with which the run is resumed from what was saved last."""
        folder = Path(self.trainer.checkpoints_dir_path)
        has_saved = self._has_saved and (folder / LATEST).is_file()  # a logger of the user's may write elsewhere
        has_saved = broadcast_from_master(has_saved)  # of several processes the first one saves an epoch's end
        back = {"resume": True, "run_id": folder.name}
        return {**back, "resume_path": None, "ckpt_name": LATEST, "load_opt_params": True} if has_saved else back

    def epoch(self, context: PhaseContext) -> "Epoch":
        """Return the loader of an epoch: from its first batch on, or from that which the checkpoint stopped before."""
        trainer, loader = self.trainer, self.trainer.train_loader
        if self._loader is None or self._loader.loader is not loader:
            self._loader = PlacedLoader(loader)
        seed = trainer.training_params.seed or 0
        place = Place(seed, max(get_local_rank(), 0), context.epoch)
        resumed, self.resumed = self.resumed, None
        if resumed is None or resumed["epoch"] != context.epoch or not resumed["batch"]:
            return Epoch(self, self._loader, place)
        if [len(loader), get_world_size()] != resumed["of"]:
            logger.warning(
                f"epoch {context.epoch + 1} begins anew: it was left at batch {resumed['batch']} of {resumed['of'][0]} "
                f"in {resumed['of'][1]} processes, and now has {len(loader)} in {get_world_size()}"
            )
            return Epoch(self, self._loader, place)
        params = trainer.training_params
        if params.load_opt_params and self._asked_rate == resumed["initial_lr"] and self._slower == 1.0:
            # The epoch's start has set the rates of its first batch.
            trainer.optimizer.load_state_dict(trainer.checkpoint["optimizer_state_dict"])
            if trainer._torch_lr_scheduler is not None:
                trainer._torch_lr_scheduler.load_state_dict(trainer.checkpoint["torch_scheduler_state_dict"])
        return Epoch(self, self._loader, replace(place, batch=resumed["batch"]), resumed)

    def take_up(self, resumed: Mapping[str, Any]) -> None:
        """Go on with the sums and the random numbers of a process, after the Trainer has reset them."""
        own = resumed["processes"][max(get_local_rank(), 0)]
        self._load_callbacks(resumed)
        sums = tensor_container_to_device(copy.deepcopy(own["loss"]), self.context.device)
        vars(self.context.loss_avg_meter).update(sums)
        for name, metric in self.trainer.train_metrics.items():
            for key, value in own["metrics"][name].items():
                setattr(metric, key, copy.deepcopy(value))
            metric.to(self.context.device)
        self.trainer._epoch_start_logging_values = resumed["logged_at_start"]
        random.setstate(own["random"])
        np.random.set_state(("MT19937", np.array(own["numpy"][0], dtype=np.uint32), *own["numpy"][1]))
        torch.set_rng_state(own["torch"])
        if own["cuda"]:
            torch.cuda.set_rng_state_all(own["cuda"])

    # Between batches.

    def after_batch(self, place: Place, batches: int) -> None:
        """Save if it is time, and end if that was asked for; `place` is that of the next batch.

        Raises:
            KeyboardInterrupt: on which SuperGradients ends a training.
        """
        self._steps += 1
        is_last = place.batch >= batches
        stop, due = self._agreed(is_last)
        if is_last or stop or due:
            if self.check is not None:
                self.check(self.context)
            self.unsaved = self.state(place.epoch, place.batch, is_last)
        if stop or due:
            self.save()
            if dist.is_initialized() and get_world_size() > 1:
                dist.barrier()  # no process is stopped while the first one writes
        if stop:
            self.stop.signal = stop
            raise KeyboardInterrupt

    def _agreed(self, at_once: bool) -> tuple[int, bool]:
        """Return which signal one of the processes got, and whether it is time to save: the same in all of them."""
        stop, due = self.stop.signal or 0, self.interval.is_over(self._steps)
        if get_world_size() == 1:
            return stop, due
        if self._steps < self._next_question and not at_once:
            return 0, due and self.interval.steps is not None  # steps are counted alike in all of them
        now, (step, asked) = time.monotonic(), self._asked
        seconds = (now - asked) / (self._steps - step)
        answers = torch.tensor([stop, due and get_local_rank() == 0, seconds], device=self.context.device)
        dist.all_reduce(answers, dist.ReduceOp.MAX)
        stop, due, seconds = answers.tolist()
        self._asked = self._steps, now
        self._next_question = self._steps + max(1, int(SECONDS_BETWEEN_QUESTIONS / max(seconds, 1e-6)))
        return int(stop), bool(due)

    def save(self) -> None:
        """Write the state that is not saved yet into `ckpt_latest.pth`; of several processes the first does."""
        trainer, state = self.trainer, self.unsaved
        self.written()
        self.stop.answered()
        if state is not None and trainer.training_params.save_model and not trainer.ddp_silent_mode:
            folder = make_folder(trainer.checkpoints_dir_path, "ckpt_root_dir")  # of a user's own logger there is none
            checkpoints.write(state, folder / LATEST)

    def end_epoch(self, state: Mapping[str, Any], logger: Any) -> None:
        """Write `ckpt_latest.pth` at an epoch's end, through SuperGradients' logger, and what is kept beside it."""
        epoch = state["epoch"]
        self.kept.add(epoch, state["acc"])
        logger.add_checkpoint(LATEST, {**state, "progress": self.progress(epoch, 0)}, epoch)
        self.written()
        self.kept.settle(Path(self.trainer.checkpoints_dir_path), epoch)

    def written(self) -> None:
        """Note that `ckpt_latest.pth` is of now."""
        self._has_saved = True
        self.unsaved = None
        self.interval.begin(self._steps)

    # The state.

    def state(self, epoch: int, batch: int, is_over: bool) -> dict[str, Any]:
        """Return what a checkpoint holds before batch number `batch` of an epoch. Tensors that a validation leaves
        alone are not copied."""
        trainer = self.trainer
        state = {
            "net": unwrap_model(self.context.net).state_dict(),  # `trainer.net` is the average in a validation
            "epoch": epoch,
            "optimizer_state_dict": trainer.optimizer.state_dict(),
            "scaler_state_dict": trainer.scaler.state_dict(),
            "progress": self.progress(epoch, batch, is_over),
        }
        if trainer.ema:
            state["ema_net"] = unwrap_model(trainer.ema_model.ema).state_dict()
        if trainer._torch_lr_scheduler is not None:
            state["torch_scheduler_state_dict"] = copy.deepcopy(get_scheduler_state(trainer._torch_lr_scheduler))
        processing = trainer._get_preprocessing_from_valid_loader()
        if processing is not None:
            state["processing_params"] = processing
        run = current_run()
        return state if run is None else {"recipe": run.recipe, **state}

    def progress(self, epoch: int, batch: int, is_over: bool = False) -> dict[str, Any]:
        """Return `progress`; within an epoch, and where its last batch `is_over`, all processes take part in it."""
        trainer = self.trainer
        return {
            "epoch": epoch,
            "batch": batch,
            "of": [len(trainer.train_loader), get_world_size()],
            "processes": self._processes() if batch else [],
            "gradients": [parameter.grad for parameter in trainer.net.parameters()],
            "best": [trainer.metric_to_watch, float(trainer.best_metric), trainer._best_ckpt_metrics],
            "initial_lr": self._asked_rate,
            "rollbacks": self.rollbacks,
            "kept": dict(self.kept.figures),
            "snapshots": getattr(trainer.model_weight_averaging, "figures", None),
            "callbacks": self._changed(),
            "stop_training": bool(self.context.stop_training),
            "logged_at_start": dict(trainer._epoch_start_logging_values or {}),
            "losses": list(trainer.loss_logging_items_names or ()),
            "results": self._results() if is_over else None,
        }

    def _results(self) -> list[float]:
        values = self.context.loss_avg_meter.average + get_metrics_results_tuple(self.trainer.train_metrics)
        return [float(value) for value in values]

    def _processes(self) -> list[dict[str, Any]]:
        _, keys, *rest = np.random.get_state(legacy=True)
        own = {
            "random": random.getstate(),
            "numpy": [np.asarray(keys).tolist(), rest],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            "loss": copy.deepcopy(vars(self.context.loss_avg_meter)),
            "metrics": {name: _sums(metric) for name, metric in self.trainer.train_metrics.items()},
        }
        if get_world_size() == 1:
            return [own]
        everyone: list[Any] = [None] * get_world_size()
        dist.all_gather_object(everyone, own)
        return everyone

    def _states(self) -> dict[str, dict[str, Any]]:
        """Return the plain values of each callback, by its class and how many of that class stand before it."""
        states: dict[str, dict[str, Any]] = {}
        for callback in self.trainer.phase_callbacks:
            kind = type(callback).__name__
            number = sum(name.rpartition(" ")[0] == kind for name in states)
            states[f"{kind} {number}"] = plain_values(callback)
        return states

    def _changed(self) -> dict[str, dict[str, Any]]:
        """Return what has changed in the callbacks since training began: that is their state, the rest their
        settings."""
        changed = {}
        for name, state in self._states().items():
            before, now = self._callbacks.get(name, {}), _pickled(state)
            changed[name] = {key: copy.deepcopy(state[key]) for key in state if before.get(key) != now[key]}
        return {name: state for name, state in changed.items() if state}

    def _load_callbacks(self, resumed: Mapping[str, Any]) -> None:
        saved = resumed["callbacks"]
        for callback, name in zip(self.trainer.phase_callbacks, self._states(), strict=True):
            vars(callback).update(copy.deepcopy(saved.get(name, {})))

    def finish_epoch(self, resumed: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return what `_train_epoch` returns, of an epoch whose batches had all been seen."""
        trainer = self.trainer
        trainer._reset_metrics()
        trainer.train_metrics.to(self.context.device)
        self.context.update_context(loss_avg_meter=AverageMeter(), metrics_compute_fn=trainer.train_metrics)
        trainer.loss_logging_items_names = resumed["losses"]
        trainer._init_monitored_items()
        trainer._first_backward = False
        self.take_up(resumed)
        values = tuple(resumed["results"])
        shown = get_train_loop_description_dict(values, trainer.train_metrics, trainer.loss_logging_items_names)
        trainer.train_monitored_values = update_monitored_values_dict(trainer.train_monitored_values, shown)
        return values


@dataclass
class Epoch:
    """Stands for the Trainer's loader while an epoch is trained: gives its batches from `place` on."""

    progress: Progress
    loader: PlacedLoader
    place: Place
    resumed: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.loader.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader.loader, name)

    def __iter__(self) -> Iterator[Any]:
        batches = self.expected
        iterator = self.loader.iterate(self.place)
        if self.resumed is not None:
            self.progress.take_up(self.resumed)
        for batch in self.progress.waits.timed(iterator):
            yield batch
            self.place = replace(self.place, batch=self.place.batch + 1)
            self.progress.after_batch(self.place, batches)

    @property
    def expected(self) -> int:
        """How many batches the epoch has."""
        return self.progress.trainer.max_train_batches or len(self)


def _sums(metric: Metric) -> dict[str, Any]:
    """What a metric has added up; whether it has seen anything is a flag or a number, by torchmetrics' version."""
    keys = [*metric._defaults, *(key for key in ("_update_called", "_update_count") if hasattr(metric, key))]
    return {key: copy.deepcopy(getattr(metric, key)) for key in keys}


_RATES = ("lr", "initial_lr", "max_lr", "min_lr")  # of a parameter group


def _scaled(rate: Any, factor: float) -> Any:
    return {key: each * factor for key, each in rate.items()} if isinstance(rate, Mapping) else rate * factor


_PLAIN = (type(None), bool, int, float, str, torch.Tensor)


def plain_values(callback: Any) -> dict[str, Any]:
    """Return what a callback holds that can be written as data: numbers, texts, tensors, lists and dicts of them."""
    return {key: value for key, value in vars(callback).items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if type(value) is dict:
        return all(type(key) in (int, str) and _is_plain(each) for key, each in value.items())
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return type(value) in _PLAIN or isinstance(value, np.generic)


def _pickled(state: Mapping[str, Any]) -> dict[str, bytes]:
    return {key: pickle.dumps(value) for key, value in state.items()}
