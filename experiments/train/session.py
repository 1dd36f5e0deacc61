# SPDX-License-Identifier: Apache-2.0
"""A worker process while it works: what it brings to its jobs, its claim on one, its stop."""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.executors.worker_events import Event
from experiments.executors.worker_settings import (
    CHECKPOINT_SECONDS,
    LEASE_SECONDS,
    MAX_ATTEMPTS,
    Keep,
)
from experiments.files.storage import DISK_ERRORS
from experiments.ledger.claims import How, JobFolder, Owned
from experiments.ledger.owner import Owner
from experiments.machine.peak import NO_PEAK, Peak
from model.network.execution import Execution
from model.training.outcome import Interrupted, Order, TrainResult

if TYPE_CHECKING:
    from model.data.corpus import Corpus
    from model.training.checkpoints.checkpoint import Checkpoints

# As train_pack of model/training/loop.py.
Train = Callable[..., Sequence[TrainResult]]
_REPLACED = "attempt {} was silent too long and was replaced"
# A heartbeat may be late by a few of its intervals before the lease is over.
BEATS_PER_LEASE = 6


class Stop:
    """Asked from outside to end, and what the main thread is doing meanwhile.

    Between two dispatches a run can save and stop. A compilation cannot be interrupted from
    Python, so while ``phase`` is not "train" the asking thread itself ends the attempt and then
    the process.
    """

    def __init__(self, end_process: Callable[[], None]):
        self._end_process = end_process
        self._lock = threading.Lock()
        self._phase = "idle"
        self.attempt: Attempt | None = None
        self.is_asked = False

    def enter(self, phase: str) -> None:
        """From the main thread; waits for ever where the process is just being ended."""
        with self._lock:
            self._phase = phase

    def ask(self) -> None:
        """From another thread."""
        with self._lock:
            self.is_asked = True
            if self._phase == "train":
                return
            if self.attempt is not None and self._phase == "compile":
                self.attempt.end("preempted", "asked to stop while it compiled")
            self._end_process()


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a worker process brings to each of its jobs.

    Attributes:
      me: this process.
      corpora: by fingerprint, the data of the study's runs.
      mesh_shape, execution, train: for train_pack of model/training/loop.py, or for what stands in
        for it.
      open_checkpoints: folder, attempt=N -> Checkpoints (model/training/checkpoints/checkpoint.py).
      stop: see Stop.
      emit: takes what happens.
      checkpoint_seconds: least time between two checkpoints.
      lease_seconds: silence after which others may take a job from us.
      max_attempts: failures after which a job is left alone.
      peak: compute dtype -> peak FLOP/s of all its devices, recorded with results.
      per_device: workers that share these devices, this one included.
      keep: which final weights are kept; see Study.
      stop_early: of WorkerSettings.
    """

    me: Owner
    corpora: "Mapping[str, Corpus]"
    mesh_shape: tuple[int, ...]
    execution: Execution
    train: Train
    open_checkpoints: "Callable[..., Checkpoints]"
    stop: Stop
    emit: Callable[[Event], None] = lambda event: None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    lease_seconds: float = LEASE_SECONDS
    max_attempts: int = MAX_ATTEMPTS
    peak: Callable[[str], Peak] = lambda dtype: NO_PEAK
    per_device: int = 1
    keep: Keep = "auto"
    stop_early: bool = False


class Attempt:
    """A claim that is being worked on: it beats, it watches for a successor, it ends once."""

    def __init__(self, job: JobFolder, number: int, session: Session):
        self.job, self.number, self.session = job, number, session
        self._is_over = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Attempt":
        self.session.stop.attempt = self
        self.session.stop.enter("compile")
        self._heart.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self.session.stop.enter("idle")
        self.session.stop.attempt = None
        self._is_over.set()
        self._heart.join()
        if error is None:
            return
        # A successor clears away what we had: whatever failed then was no longer ours.
        if self.job.is_superseded(self.number):
            raise Owned(_REPLACED.format(self.number)) from error
        self.end(*_ending(error))

    def end(self, how: How, reason: str) -> None:
        # Where even this cannot be written, the next claim finds us dead or silent.
        with contextlib.suppress(OSError):
            self.job.end(self.number, how, reason, self.job.newest_step())

    def control(self, step: int) -> Order:
        """What to do before the dispatch that follows ``step``."""
        if self.job.is_superseded(self.number):
            return Order.STOP
        return Order.SAVE_AND_STOP if self.session.stop.is_asked else Order.GO

    def check(self) -> None:
        """Raises Owned if somebody took the job."""
        if self.job.is_superseded(self.number):
            raise Owned(_REPLACED.format(self.number))

    def _beat(self) -> None:
        while not self._is_over.wait(self.session.lease_seconds / BEATS_PER_LEASE):
            # A missed beat is what the lease is for.
            with contextlib.suppress(OSError):
                self.job.beat(self.number)


def _ending(error: BaseException) -> tuple[How, str]:
    words = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    if isinstance(error, Interrupted):
        return "preempted", str(error)
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return "disk", words
    if isinstance(error, ValueError):
        return "refused", str(error)
    is_memory = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in words
    return ("oom" if is_memory else "exception"), words
