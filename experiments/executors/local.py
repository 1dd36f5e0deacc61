# SPDX-License-Identifier: Apache-2.0
"""Worker processes on this machine, each with devices of its own. May be killed at any time.

Results travel by disk: this hands out ids and watches. A worker keeps its compiled programs, so
it is given job after job of the same program. Workers end when their input ends, and so with us.
"""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.executors import exit_codes
from experiments.executors import worker_events as events
from experiments.executors.base import QueuedJob, Watcher
from experiments.executors.local_devices import Place
from experiments.executors.local_idle import IdleWorkers, end
from experiments.executors.local_queue import WATCH_SECONDS, JobQueue
from experiments.executors.worker_settings import MODULE, WorkerSettings

# Between two looks at jobs that others have.
POLL_SECONDS = 1.0
# From asking a worker to stop to killing it.
GRACE_SECONDS = 30.0
_UNKNOWN_FLAG = "Unknown flag in XLA_FLAGS"


class DiskError(Exception):
    """The results folder cannot be written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Local:
    """Trains on this machine, until every job has ended, here or with somebody else.

    Attributes:
      places: what each worker may use.
      settings: of all workers, but for their cores.
      idle: where workers wait for jobs to come, and come from; None: they end when these do.
      program: what is started; the tests' stand-ins are.
    """

    places: tuple[Place, ...]
    settings: WorkerSettings
    idle: IdleWorkers | None = None
    program: tuple[str, ...] = (sys.executable, *MODULE)

    def run(self, root: Path, jobs: Sequence[QueuedJob], watcher: Watcher) -> None:
        """Lets workers train jobs; their logs go to logs/ of the study.

        Raises:
          ValueError: if a worker refused its input (mesh, data, spec): nothing else was started.
          DiskError: if the results folder cannot be written; finished points are kept.
          KeyboardInterrupt: passed on, after the workers were stopped.
        """
        queue = JobQueue.of(jobs)
        slots = [_Slot(i, root, self, queue, watcher) for i in range(len(self.places))]
        if self.idle is not None:
            self.idle.close(keep={slot.key for slot in slots})
        try:
            for slot in slots:
                slot.start()
            # Not join(): where a signal's handler raises in it, CPython takes the thread for ended.
            while not all(slot.has_ended.is_set() for slot in slots):
                time.sleep(WATCH_SECONDS)
                for slot in slots:
                    if slot.error is not None:
                        raise slot.error
        finally:
            for slot in slots:
                slot.ask_to_stop()
            for slot in slots:
                slot.stop()
        for slot in slots:
            if slot.error is not None:
                raise slot.error


class _Slot(threading.Thread):
    """One worker process at a time, fed from the queue."""

    def __init__(self, index: int, root: Path, local: Local, queue: JobQueue, watcher: Watcher):
        super().__init__(daemon=True)
        self.index, self.root, self.local = index, root, local
        self.place = local.places[index]
        self.queue, self.watcher = queue, watcher
        self.process: subprocess.Popen | None = None
        self.error: Exception | None = None
        self.is_stopping, self.has_ended = threading.Event(), threading.Event()

    @property
    def log(self) -> Path:
        return self.root / "logs" / f"worker-{os.getpid()}-{self.index}.log"

    def run(self) -> None:
        job = None
        try:
            while (job := self.queue.take(job, self.is_stopping.is_set)) is not None:
                self._train(job)
            self._wait_idle()
        except Exception as error:
            self.error = error
        finally:
            if self.process is not None:
                end(self.process)  # A worker ends when its input does.
            self.has_ended.set()

    def _wait_idle(self) -> None:
        """Leaves a worker that is alive to jobs to come."""
        idle, process = self.local.idle, self.process
        if idle is not None and process is not None and not self.is_stopping.is_set():
            self.process = None
            idle.put(self.key, process)

    def ask_to_stop(self) -> None:
        """Lets the worker save and end; called from another thread."""
        self.is_stopping.set()
        if (process := self.process) is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Waits for the worker to end, and kills it after its grace; called from another thread."""
        if self.ident is None:
            return  # We were told before it had begun.
        if not self.has_ended.wait(GRACE_SECONDS) and self.process is not None:
            self.process.kill()
            self.has_ended.wait()

    def _train(self, job: QueuedJob) -> None:
        if self.process is None or self.process.poll() is not None:
            if self.process is not None:
                end(self.process)
            idle = self.local.idle
            self.process = (idle.take(self.key) if idle is not None else None) or self._spawn()
        if self.is_stopping.is_set():
            return  # It was started too late to be asked; run() ends it.
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(job.id + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # It died at its start; its exit code is judged below.
        for line in process.stdout:
            match events.decode(line):
                case events.Preempted():
                    break
                case events.Refused(reason=reason):
                    raise ValueError(reason)
                case events.DiskFailed(reason=reason):
                    raise DiskError(reason)
                case events.Failed(reason=reason):
                    return self._failed(job, reason)
                case events.Progress() | events.Done() | events.GaveUp() | events.Owned() as event:
                    self.watcher.event(self.index, job.id, event)
                    match event:
                        case events.Done():
                            return self.queue.done(job)
                        case events.GaveUp():
                            return self._lost(job)
                        case events.Owned():
                            return self._owned(job)
        code = process.wait()
        if code == exit_codes.PREEMPTED:
            self.queue.give_back(job)
        elif not self.is_stopping.is_set():
            words = self._last_words()
            if _UNKNOWN_FLAG in words:  # XLA ends the process; no job is to blame.
                raise ValueError(f"{words[words.index(_UNKNOWN_FLAG) :]}. Mend or unset XLA_FLAGS.")
            self._failed(job, f"worker ended with exit code {code}: {words}")

    def _failed(self, job: QueuedJob, reason: str) -> None:
        assert self.process is not None
        outcome = self.watcher.died(self.index, job.id, self.process.pid, reason)
        if outcome == "again":
            self.queue.give_back(job)
        elif outcome == "done":
            self.queue.done(job)
        else:
            self._lost(job)

    def _lost(self, job: QueuedJob) -> None:
        """What waited for a job that was given up will not be done either."""
        for one in self.queue.drop(job):
            reason = f"what it begins from, {one.after}, failed"
            self.watcher.event(self.index, one.id, events.GaveUp(id=one.id, reason=reason))

    def _owned(self, job: QueuedJob) -> None:
        if not self.queue.put_off(job):
            self.is_stopping.wait(POLL_SECONDS)

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing."

    @property
    def key(self) -> tuple[Hashable, ...]:
        """What a worker was started with."""
        return (self.index, *self._command(), *sorted(self.place.environment.items()))

    def _command(self) -> list[str]:
        local = self.local
        settings = dataclasses.replace(
            local.settings, cores=self.place.cores, per_device=self.place.per_device
        )
        where = ("--root", str(self.root.absolute()), "--jobs", "-")
        return [*local.program, *where, *settings.to_arguments()]

    def _spawn(self) -> subprocess.Popen:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("w") as log:
            return subprocess.Popen(
                self._command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | self.place.environment,
            )
