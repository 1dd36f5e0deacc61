# SPDX-License-Identifier: Apache-2.0
"""Worker processes on this machine, each with devices of its own. May be killed at any time.

Results travel by disk: this hands out ids and watches. A worker keeps its compiled programs, so
it is given job after job of the same program. Workers end when their input ends, and so with us.
"""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from experiments.executors import exit_codes
from experiments.executors.local_devices import Workers
from experiments.executors.local_idle import end
from experiments.executors.local_queue import WATCH_SECONDS, JobQueue, LocalJob

# Between two looks at jobs that others have.
POLL_SECONDS = 1.0


class DiskError(Exception):
    """The results folder cannot be written."""


class Watcher(Protocol):
    """Is told what happens; called from several threads."""

    def event(self, slot: int, job_id: str, event: dict[str, Any]) -> None: ...

    def died(
        self, slot: int, job_id: str, pid: int, reason: str
    ) -> Literal["again", "done", "lost"]:
        """A worker ended in the middle of a job; what is to become of it."""
        ...


def run_jobs(
    root: Path,
    jobs: Sequence[LocalJob],
    mesh: tuple[int, ...],
    workers: Workers,
    watcher: Watcher,
) -> None:
    """Lets workers train jobs until each has ended, here or with somebody else.

    Args:
      root: folder of the study; worker logs go to its logs/.

    Raises:
      ValueError: if a worker refused its input (mesh, data, spec): nothing else was started.
      DiskError: if the results folder cannot be written; finished points are kept.
      KeyboardInterrupt: passed on, after the workers were stopped.
    """
    queue = JobQueue.of(jobs)
    environments = workers.environments or ({},) * len(workers.cores)
    slots = [
        _Slot(i, cores, environment, root, mesh, workers, queue, watcher)
        for i, (cores, environment) in enumerate(zip(workers.cores, environments, strict=True))
    ]
    if workers.idle is not None:
        workers.idle.close(keep={slot.key for slot in slots})
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

    def __init__(
        self,
        index: int,
        cores: tuple[int, ...],
        environment: dict[str, str],
        root: Path,
        mesh: tuple[int, ...],
        workers: Workers,
        queue: JobQueue,
        watcher: Watcher,
    ):
        super().__init__(daemon=True)
        self.index, self.cores, self.environment = index, cores, environment
        self.root, self.mesh, self.workers = root, mesh, workers
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
        """Leaves a worker that is alive to the next stage."""
        idle, process = self.workers.idle, self.process
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
        if not self.has_ended.wait(self.workers.grace_seconds) and self.process is not None:
            self.process.kill()
            self.has_ended.wait()

    def _train(self, job: LocalJob) -> None:
        if self.process is None or self.process.poll() is not None:
            if self.process is not None:
                end(self.process)
            idle = self.workers.idle
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
            event = _event(line)
            if event["event"] in ("progress", "done", "gave up", "owned"):
                self.watcher.event(self.index, job.id, event)
            if event["event"] == "done":
                return self.queue.done(job)
            if event["event"] == "gave up":
                return self._lost(job)
            if event["event"] == "failed":
                return self._failed(job, event["reason"])
            if event["event"] == "owned":
                return self._owned(job)
            if event["event"] == "preempted":
                break
            if event["event"] == "refused":
                raise ValueError(event["reason"])
            if event["event"] == "disk":
                raise DiskError(event["reason"])
        code = process.wait()
        if code == exit_codes.PREEMPTED:
            self.queue.give_back(job)
        elif not self.is_stopping.is_set():
            self._failed(job, f"worker ended with exit code {code}: {self._last_words()}")

    def _failed(self, job: LocalJob, reason: str) -> None:
        assert self.process is not None
        outcome = self.watcher.died(self.index, job.id, self.process.pid, reason)
        if outcome == "again":
            self.queue.give_back(job)
        elif outcome == "done":
            self.queue.done(job)
        else:
            self._lost(job)

    def _lost(self, job: LocalJob) -> None:
        """What waited for a job that was given up will not be done either."""
        for one in self.queue.drop(job):
            reason = f"what it begins from, {one.after}, failed"
            self.watcher.event(self.index, one.id, {"event": "gave up", "reason": reason})

    def _owned(self, job: LocalJob) -> None:
        if not self.queue.put_off(job):
            self.is_stopping.wait(POLL_SECONDS)

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing."

    @property
    def key(self) -> tuple[Any, ...]:
        """What a worker was started with."""
        return (self.index, *self._arguments(), *sorted(self.environment.items()))

    def _arguments(self) -> list[str]:
        workers = self.workers
        arguments = [
            *("--root", str(self.root.absolute()), "--jobs", "-"),
            *("--mesh", ",".join(map(str, self.mesh))),
            *("--execution", workers.execution),
            *("--cores", ",".join(map(str, self.cores))),
            *("--checkpoint-seconds", str(workers.checkpoint_seconds)),
            *("--lease-seconds", str(workers.lease_seconds)),
            *("--max-attempts", str(workers.max_attempts)),
        ]
        if workers.cache is not None:
            arguments += ["--cache", str(workers.cache)]
        return [*workers.command, *arguments]

    def _spawn(self) -> subprocess.Popen:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("w") as log:
            return subprocess.Popen(
                self._arguments(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | self.environment,
            )


def _event(line: str) -> dict[str, Any]:
    """What a worker says in a line; libraries may print lines of their own, which say nothing."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) and "event" in event else {"event": "noise"}
