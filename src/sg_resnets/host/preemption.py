"""Signals that ask a training to end: Ctrl-C, a cluster's time limit, `docker stop`.

They are noted, and answered between two batches, where a training can be taken up again to the last bit.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)]
LISTENED_TO = "SIGUSR2"  # noted where somebody listens to it, as submitit does
EXIT_CODES = [128 + number for number in SIGNALS]  # as a shell says them: 130 for Ctrl-C, 143 for SIGTERM
SECONDS = 8.0  # to the end of a step and its checkpoint; a cluster kills 10 to 30 s after its signal


class ListenersExit(SystemExit):
    """Whoever listened to the signal ends the process, with a code of its own."""


class Stop:
    """What was asked for while a training went on.

    Attributes:
        signal: the first signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.seen: set[int] = set()
        self.before: dict[int, Any] = {}
        self._watch: threading.Timer | None = None

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        return 128 + (self.signal or 0)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; the second Ctrl-C does not wait."""
        self.seen.add(number)
        if self.signal is None:
            self.signal = number
            self._watch = threading.Timer(SECONDS, self._give_up)
            self._watch.daemon = True
            self._watch.start()
        elif number == signal.SIGINT and "LOCAL_RANK" not in os.environ:  # a terminal and a launcher both send one
            raise KeyboardInterrupt

    def note_interrupt(self) -> None:
        """Note that KeyboardInterrupt was raised, on which SuperGradients ends the training and goes on."""
        self.signal = self.signal or signal.SIGINT

    def _give_up(self) -> None:
        name = signal.Signals(self.exit_code - 128).name
        print(
            f"{name}: no step has ended since, for {SECONDS:.0f} s; ended without a new checkpoint; what was saved "
            "before is in the run's folder, to be resumed",
            file=sys.stderr,
            flush=True,
        )
        os._exit(self.exit_code)

    def answered(self) -> None:
        """The step has ended, and what is written now is not cut off."""
        if self._watch is not None:
            self._watch.cancel()

    def pass_on(self) -> None:
        """Let whoever listened before know: submitit's handler, for one, has the job requeued. A cluster sends SIGTERM
        beside what submitit listens to, before or after it."""
        listened = getattr(signal, LISTENED_TO, None)
        number = listened if listened in self.seen else self.signal
        before = self.before.get(number or 0)
        if callable(before) and before is not signal.default_int_handler:
            try:
                before(number, None)
            except SystemExit as end:
                raise ListenersExit(end.code) from None
        elif self.signal == getattr(signal, "SIGUSR1", None):
            requeue()


@contextmanager
def signals_noted() -> Iterator[Stop]:
    """While open, signals are noted; afterwards they do what they did. Outside of the main thread, which alone gets
    them, nothing changes."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    for number in SIGNALS:
        before = signal.getsignal(number)
        if before is signal.SIG_IGN or (number.name == LISTENED_TO and not callable(before)):
            continue
        stop.before[number] = before
        signal.signal(number, stop.note)
    try:
        yield stop
    finally:
        stop.answered()
        for number, before in stop.before.items():
            signal.signal(number, before)


def requeue() -> None:
    """Have Slurm start this job again: SIGUSR1 is what it sends before its time limit where it is asked to
    (`#SBATCH --signal=USR1@90`). One process of a job asks for it."""
    job = os.environ.get("SLURM_JOB_ID")
    if job and os.environ.get("SLURM_PROCID", "0") == "0":
        try:
            said = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True).stderr.strip()
        except OSError as error:
            said = f"not queued again: {error}"
        print(f"Slurm job {job}: {said or 'queued again'}", file=sys.stderr, flush=True)
