# SPDX-License-Identifier: Apache-2.0
"""Plan minus done -> worker processes on this machine. May be killed and restarted at any time.

Results travel by disk: the runner hands out ids and watches; what a worker finished is in the
ledger whatever happens to the runner.
"""

import collections
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from experiments.ledger import Ledger
from experiments.point import Point

MAX_ATTEMPTS = 3
# A fifth less time to compile than the default level, and the same speed (d_model 32 to 96).
CPU_FLAGS = ("--xla_backend_optimization_level=1",)


class DiskError(Exception):
    """The results folder cannot be written."""


class Display(Protocol):
    """Shows what happens; see experiments/display.py."""

    def progress(self, slot: int, point: Point, event: dict[str, Any]) -> None: ...

    def done(self, slot: int, point: Point, event: dict[str, Any]) -> None: ...

    def failed(self, slot: int, point: Point, reason: str, attempt: int) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Workers:
    """How many processes, and the cores of each.

    Attributes:
      cores: per worker, the cores it is pinned to; empty tuples leave it free (accelerators).
      checkpoint_seconds: least time between two checkpoints of a run.
      cache: folder of compiled programs, or None.
      command: what starts a worker; tests put a stand-in here.
    """

    cores: tuple[tuple[int, ...], ...]
    checkpoint_seconds: float = 60.0
    cache: Path | None = None
    command: tuple[str, ...] = (sys.executable, "-m", "experiments.worker")


def local_workers(
    n_workers: int | None, n_points: int, n_devices: int, *, checkpoint_seconds: float = 60.0
) -> Workers:
    """One worker per core (fewer if there are fewer points), or one for the accelerators.

    Depends on the points of the stage and not on how many are left, so that a resumed point runs
    on as many cores as it would have, and gives the same bits.

    Args:
      n_workers: asked for, or None for the rule.
      n_points: of the stage, finished ones included.
      n_devices: of the mesh; a mesh of several gets one worker with all cores.
    """
    if n_workers is not None and n_workers < 1:
        raise ValueError(f"--workers {n_workers}: must be at least 1.")
    if has_accelerator():
        free: tuple[tuple[int, ...], ...] = ((),) * (n_workers or 1)
        return Workers(cores=free, checkpoint_seconds=checkpoint_seconds, cache=cache_folder())
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    n_cores = len(cores) or os.cpu_count() or 1
    n = n_workers or (1 if n_devices > 1 else min(n_cores, n_points))
    each = max(1, n_cores // n)
    split = tuple(tuple(cores[(i * each) % n_cores :][:each]) for i in range(n))
    return Workers(cores=split, checkpoint_seconds=checkpoint_seconds, cache=cache_folder())


def has_accelerator() -> bool:
    """Whether this machine shows a GPU or TPU that JAX is not told to leave alone."""
    if os.environ.get("JAX_PLATFORMS", "") == "cpu":
        return False
    return any(
        next(Path("/dev").glob(pattern), None) for pattern in ("nvidia[0-9]*", "accel[0-9]*")
    )


def cache_folder() -> Path:
    """Where compiled programs are kept between runs."""
    if chosen := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "isoflop" / "jax"


@dataclass
class _Queue:
    """Points left, grouped by compiled program: a worker stays with a program while it lasts."""

    groups: dict[Any, collections.deque[Point]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    taken: set[Any] = field(default_factory=set)

    @classmethod
    def of(cls, points: list[Point]) -> "_Queue":
        """Groups by decreasing cost of their longest point: long ones first."""
        queue = cls()
        for point in sorted(points, key=lambda p: -p.flops["matmul_full"]):
            queue.groups.setdefault(_program(point), collections.deque()).append(point)
        return queue

    def take(self, last: Point | None) -> Point | None:
        with self.lock:
            left = [key for key, group in self.groups.items() if group]
            if not left:
                return None
            if last is not None and _program(last) in left:
                key = _program(last)
            else:
                key = next((key for key in left if key not in self.taken), left[0])
            self.taken.add(key)
            return self.groups[key].popleft()

    def give_back(self, point: Point) -> None:
        with self.lock:
            self.groups[_program(point)].appendleft(point)


def _program(point: Point) -> tuple:
    train = point.spec.train
    return (point.spec.model, train.batch_size, train.compute_dtype)


def run_points(
    ledger: Ledger,
    points: list[Point],
    mesh: tuple[int, ...],
    workers: Workers,
    display: Display,
) -> list[tuple[Point, str]]:
    """Trains every point that has no result; returns the failed ones with their reason.

    Raises:
      ValueError: if a worker refused its input (mesh, data, spec): nothing else was started.
      DiskError: if the results folder cannot be written; finished points are kept.
      KeyboardInterrupt: passed on, after the workers were stopped.
    """
    queue = _Queue.of([point for point in points if not ledger.has_result(point.id)])
    slots = [
        _Slot(i, cores, ledger, mesh, workers, queue, display)
        for i, cores in enumerate(workers.cores)
    ]
    try:
        for slot in slots:
            slot.start()
        while any(slot.is_alive() for slot in slots):
            for slot in slots:
                slot.join(0.1)
                if slot.error is not None:
                    raise slot.error
    finally:
        for slot in slots:
            slot.stop()
        for slot in slots:
            if slot.is_alive():
                slot.join()
    for slot in slots:
        if slot.error is not None:
            raise slot.error
    return [failure for slot in slots for failure in slot.failures]


class _Slot(threading.Thread):
    """One worker process at a time, fed from the queue."""

    def __init__(
        self,
        index: int,
        cores: tuple[int, ...],
        ledger: Ledger,
        mesh: tuple[int, ...],
        workers: Workers,
        queue: _Queue,
        display: Display,
    ):
        super().__init__(daemon=True)
        self.index, self.cores, self.ledger, self.mesh = index, cores, ledger, mesh
        self.workers, self.queue, self.display = workers, queue, display
        self.process: subprocess.Popen | None = None
        self.failures: list[tuple[Point, str]] = []
        self.error: Exception | None = None
        self.is_stopping = False

    @property
    def log(self) -> Path:
        return self.ledger.logs / f"worker-{self.index}.log"

    def run(self) -> None:
        point = None
        try:
            while not self.is_stopping and (point := self.queue.take(point)) is not None:
                self._train(point)
        except Exception as error:
            self.error = error
        finally:
            self.stop()
            self._close_pipes()

    def stop(self) -> None:
        """Kills the worker; may be called from another thread."""
        self.is_stopping = True
        if (process := self.process) is not None and process.poll() is None:
            process.kill()
            process.wait()

    def _close_pipes(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout) if self.process else ():
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _train(self, point: Point) -> None:
        if self.process is None or self.process.poll() is not None:
            self._close_pipes()
            self.process = self._spawn()
        if self.is_stopping:
            return  # It was started too late for stop() to see it; run() ends it.
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(point.id + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # It died at its start; its exit code is judged below.
        for line in self.process.stdout:
            event = _event(line)
            if event["event"] == "progress":
                self.display.progress(self.index, point, event)
            elif event["event"] == "done":
                self.display.done(self.index, point, event)
                return
            elif event["event"] == "refused":
                raise ValueError(event["reason"])
            elif event["event"] == "disk":
                raise DiskError(event["reason"])
        self._died(point, self.process.wait())

    def _died(self, point: Point, code: int) -> None:
        if self.is_stopping:
            return
        reason = f"worker ended with exit code {code}: {self._last_words()}"
        attempt = self.ledger.write_attempt(point.id, {"reason": reason, "time": time.time()})
        self.display.failed(self.index, point, reason, attempt)
        if attempt < MAX_ATTEMPTS:
            self.queue.give_back(point)
        else:
            self.failures.append((point, reason))

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing."

    def _spawn(self) -> subprocess.Popen:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        arguments = [
            *("--results", str(self.ledger.results.absolute())),
            *("--study", self.ledger.folder.name),
            *("--mesh", ",".join(map(str, self.mesh))),
            *("--cores", ",".join(map(str, self.cores))),
            *("--checkpoint-seconds", str(self.workers.checkpoint_seconds)),
        ]
        if self.workers.cache is not None:
            arguments += ["--cache", str(self.workers.cache)]
        environment = dict(os.environ)
        if self.cores:
            flags = [environment.get("XLA_FLAGS", ""), *CPU_FLAGS]
            flags += ["--xla_cpu_multi_thread_eigen=false"] * (len(self.cores) == 1)
            environment["XLA_FLAGS"] = " ".join(flags).strip()
        with self.log.open("w") as log:
            return subprocess.Popen(
                [*self.workers.command, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )


def _event(line: str) -> dict[str, Any]:
    """What a worker says in a line; libraries may print lines of their own, which say nothing."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) and "event" in event else {"event": "noise"}
