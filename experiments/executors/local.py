# SPDX-License-Identifier: Apache-2.0
"""Worker processes on this machine, each with devices of its own. May be killed at any time.

Results travel by disk: this hands out ids and watches. A worker keeps its compiled programs, so
it is given job after job of the same program. Workers end when their input ends, and so with us.
"""

import collections
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from experiments.executors.idle import IdleWorkers, end

# Between two looks at jobs that others have.
POLL_SECONDS = 1.0
WATCH_SECONDS = 0.1
EXIT_PREEMPTED = 75  # experiments/worker.py
# JAX takes three quarters of a GPU by default; workers that share one share this much.
GPU_MEMORY_SHARE = 0.9


class DiskError(Exception):
    """The results folder cannot be written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalJob:
    """A job to be done here.

    Attributes:
      id: of the job.
      program: what it compiles; jobs of one program stay together.
      size: large ones first.
      after: the job that must have been done before, or None.
    """

    id: str
    program: Hashable
    size: float
    after: str | None = None


class Watcher(Protocol):
    """Is told what happens; called from several threads."""

    def event(self, slot: int, job_id: str, event: dict[str, Any]) -> None: ...

    def died(
        self, slot: int, job_id: str, pid: int, reason: str
    ) -> Literal["again", "done", "lost"]:
        """A worker ended in the middle of a job; what is to become of it."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Workers:
    """How many processes, and what each may use.

    Attributes:
      cores: per worker, the cores it is pinned to; empty tuples leave it free (accelerators).
      environments: per worker, variables that show it its accelerators; empty for none.
      checkpoint_seconds: least time between two checkpoints of a run.
      grace_seconds: from asking a worker to stop to killing it.
      lease_seconds, max_attempts: see experiments/worker.py.
      cache: folder of compiled programs, or None.
      execution: how networks are computed, in text (model/execution.py); empty: as they choose.
      command: what starts a worker; tests put a stand-in here.
      idle: where workers wait for the next stage, and come from; None: they end with this one.
    """

    cores: tuple[tuple[int, ...], ...]
    environments: tuple[dict[str, str], ...] = ()
    checkpoint_seconds: float = 60.0
    grace_seconds: float = 30.0
    lease_seconds: float = 120.0
    max_attempts: int = 3
    cache: Path | None = None
    execution: str = ""
    command: tuple[str, ...] = (sys.executable, "-m", "experiments.worker")
    idle: IdleWorkers | None = None


def local_workers(
    n_workers: int | None, n_jobs: int, n_devices: int, *, per_device: int = 1, **options: Any
) -> Workers:
    """One worker per core (fewer if there are fewer jobs), or so many per accelerator.

    Depends on the jobs of the stage and not on how many are left, so that a resumed job runs on
    as many cores as it would have, and gives the same bits.

    Args:
      n_workers: asked for, or None for the rule.
      n_jobs: of the stage, finished ones included.
      n_devices: of the mesh; a mesh of several gets one worker with all of them.
      per_device: workers that share an accelerator best, see experiments/side_by_side.py.
      options: further fields of Workers.
    """
    if n_workers is not None and n_workers < 1:
        raise ValueError(f"--workers {n_workers}: must be at least 1.")
    if has_accelerator():
        environments = _accelerators(n_workers, n_jobs, n_devices, per_device)
        cores: tuple[tuple[int, ...], ...] = ((),) * len(environments)
        return Workers(cores=cores, environments=environments, cache=cache_folder(), **options)
    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    n_cores = len(mine) or os.cpu_count() or 1
    n = n_workers or (1 if n_devices > 1 else min(n_cores, n_jobs))
    each = max(1, n_cores // n)
    split = tuple(tuple(mine[(i * each) % n_cores :][:each]) for i in range(n))
    return Workers(cores=split, cache=cache_folder(), **options)


def has_accelerator() -> bool:
    """Whether this machine shows a GPU or TPU that JAX is not told to leave alone."""
    if os.environ.get("JAX_PLATFORMS", "") == "cpu":
        return False
    return any(
        next(Path("/dev").glob(pattern), None) for pattern in ("nvidia[0-9]*", "accel[0-9]*")
    )


def _accelerators(
    n_workers: int | None, n_jobs: int, n_devices: int, per_device: int
) -> tuple[dict[str, str], ...]:
    """Variables per worker: a GPU for each, or a share of one; a TPU's chips stay together."""
    gpus = visible_gpus()
    if not gpus or n_devices > 1:
        return ({},) * (n_workers or 1)
    n = n_workers or min(per_device * len(gpus), n_jobs)
    per_gpu = -(-n // len(gpus))
    return tuple(share_of(gpus[i % len(gpus)], per_gpu) for i in range(n))


def share_of(gpu: str, n_workers: int) -> dict[str, str]:
    """Variables of one of so many processes on a GPU."""
    fraction = f"{GPU_MEMORY_SHARE / n_workers:.3f}"
    return {"CUDA_VISIBLE_DEVICES": gpu, "XLA_PYTHON_CLIENT_MEM_FRACTION": fraction}


def visible_gpus() -> list[str]:
    """Names of the GPUs that we may use, as CUDA_VISIBLE_DEVICES takes them."""
    if (shown := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in shown.split(",") if name.strip()]
    return [str(i) for i, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


def cache_folder() -> Path:
    """Where compiled programs are kept between runs."""
    if chosen := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "isoflop" / "jax"


@dataclass
class _Queue:
    """Jobs left, grouped by compiled program: a worker stays with a program while it lasts."""

    groups: dict[Hashable, collections.deque[LocalJob]] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)
    taken: set[Hashable] = field(default_factory=set)
    later: list[LocalJob] = field(default_factory=list)
    undone: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, jobs: Sequence[LocalJob]) -> "_Queue":
        """Groups by decreasing size of their largest job: long ones first."""
        queue = cls(undone={job.id for job in jobs})
        for job in sorted(jobs, key=lambda job: -job.size):
            queue.groups.setdefault(job.program, collections.deque()).append(job)
        return queue

    def take(
        self, last: LocalJob | None, is_stopping: Callable[[], bool] = lambda: False
    ) -> LocalJob | None:
        """The next job that need not wait for another; waits while there are only such.

        Of the program of ``last`` where there is one. None at the end, or when told to stop.
        """
        with self.changed:
            while not is_stopping():
                ready = {key: job for key in self.groups if (job := self._ready(key)) is not None}
                if ready:
                    fresh = [key for key in ready if key not in self.taken] or list(ready)
                    is_same = last is not None and last.program in ready
                    key = last.program if last is not None and is_same else fresh[0]
                    self.taken.add(key)
                    self.groups[key].remove(ready[key])
                    return ready[key]
                if self.later:
                    return self.later.pop(0)
                if not any(self.groups.values()):
                    return None
                self.changed.wait(WATCH_SECONDS)
        return None

    def _ready(self, key: Hashable) -> LocalJob | None:
        return next((job for job in self.groups[key] if job.after not in self.undone), None)

    def done(self, job: LocalJob) -> None:
        """Lets those begin that waited for it."""
        with self.changed:
            self.undone.discard(job.id)
            self.changed.notify_all()

    def drop(self, job: LocalJob) -> list[LocalJob]:
        """Takes out all that waited for a job which will not be done, and returns them."""
        with self.changed:
            dropped = [job]
            for lost in dropped:
                for group in self.groups.values():
                    waiting = [one for one in group if one.after == lost.id]
                    dropped += waiting
                    for one in waiting:
                        group.remove(one)
            self.changed.notify_all()
            return dropped[1:]

    def give_back(self, job: LocalJob) -> None:
        with self.changed:
            self.groups[job.program].appendleft(job)
            self.changed.notify_all()

    def put_off(self, job: LocalJob) -> bool:
        """Asks for it again at the end, as another has it; whether there is anything else to do."""
        with self.changed:
            self.later.append(job)
            return any(self._ready(key) is not None for key in self.groups)


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
    queue = _Queue.of(jobs)
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
        queue: _Queue,
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
        if code == EXIT_PREEMPTED:
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
