# SPDX-License-Identifier: Apache-2.0
"""One attempt at a job: claim it, train its points, write their results or how it ended."""

import contextlib
import dataclasses
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from experiments.claims import MAX_ATTEMPTS, How, JobFolder, Owned, Owner
from experiments.ledger import Ledger, Spent
from experiments.peak import NO_PEAK, Peak
from experiments.point import Point
from experiments.provenance import EnergyMeter, device_facts, software_facts
from experiments.storage import DISK_ERRORS
from model.data.manifest import bits_per_byte
from model.execution import Execution
from model.hardware import mfu
from model.training.control import Interrupted, Order

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
      corpus, mesh_shape, execution, train: for model/training/loop.py or a stand-in.
      open_checkpoints: folder, attempt=N -> Checkpoints (model/training/checkpoint.py).
      stop: see Stop.
      emit: takes what happens as JSON objects.
      checkpoint_seconds: least time between two checkpoints.
      lease_seconds: silence after which others may take a job from us.
      max_attempts: failures after which a job is left alone.
      peak: compute dtype -> peak FLOP/s of all its devices, recorded with results.
    """

    me: Owner
    corpus: Any
    mesh_shape: tuple[int, ...]
    execution: Execution
    train: Callable[..., Any]
    open_checkpoints: Callable[..., Any]
    stop: Stop
    emit: Callable[[dict[str, Any]], None] = lambda event: None
    checkpoint_seconds: float = 60.0
    lease_seconds: float = 120.0
    max_attempts: int = MAX_ATTEMPTS
    peak: Callable[[str], Peak] = lambda dtype: NO_PEAK


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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


def run_job(ledger: Ledger, job_id: str, session: Session) -> list[dict[str, Any]]:
    """The records of a job's points, trained now unless they were.

    Raises:
      ValueError: if the job or its data are not what they should be.
      Owned: if somebody alive has it, or took it from us.
      GaveUp: if it failed too often.
      Interrupted: if the session was asked to stop; there is a checkpoint unless it compiled.
    """
    folder = ledger.job(job_id)
    job = folder.job()
    if job is None:
        raise ValueError(f"no job {job_id} in {ledger.folder}. `isoflop run` makes them.")
    if job.kind != "solo":
        raise ValueError(f"job {job_id} is a {job.kind}: this version trains solo jobs only.")
    point = ledger.read_point(job.members[0])
    if ledger.has_intact_result(point.id):
        return [_standing(ledger, point)]
    _check_data(ledger, point, session.corpus)
    number = folder.claim(
        session.me, lease_seconds=session.lease_seconds, max_attempts=session.max_attempts
    )
    with Attempt(folder, number, session) as attempt:
        notes = ledger.set_aside_damaged(point.id)
        if ledger.has_result(point.id):  # Whoever had the job finished it before we claimed it.
            return [_standing(ledger, point)]
        return [_train(ledger, point, attempt, session, notes)]


def _standing(ledger: Ledger, point: Point) -> dict[str, Any]:
    record = ledger.read_result(point.id)
    assert record is not None, point.id
    return record


def _check_data(ledger: Ledger, point: Point, corpus: Any) -> None:
    planned, found = point.spec.data_fingerprint, corpus.manifest.fingerprint
    if planned != found:
        raise ValueError(
            f"run {point.id} was planned for other data ({planned[:12]}) than lie in "
            f"{ledger.data} ({found[:12]}). Run the study again."
        )


def _train(
    ledger: Ledger, point: Point, attempt: Attempt, session: Session, notes: list[str]
) -> dict[str, Any]:
    """Trains a point and creates its result; the record that stands."""
    device = device_facts()
    peak = session.peak(point.spec.train.compute_dtype)
    began, energy = time.monotonic(), EnergyMeter(device["platform"])

    def on_progress(progress: Any) -> None:
        energy.joules()  # Often enough that no counter starts over unseen.
        row = dataclasses.asdict(progress)
        spent = {
            "wall_seconds": round(time.monotonic() - began, 3),
            "peak_flops_per_second": round(peak.flops_per_second),
        }
        ledger.write_metrics(point.id, attempt.number, row | spent)
        session.emit({"event": "progress", "id": attempt.job.id} | row)

    result = session.train(
        point.spec.model,
        point.spec.train,
        session.corpus,
        mesh_shape=session.mesh_shape,
        execution=session.execution,
        checkpoints=session.open_checkpoints(
            ledger.checkpoints(attempt.job.id), attempt=attempt.number
        ),
        checkpoint_seconds=session.checkpoint_seconds,
        control=attempt.control,
        on_phase=session.stop.enter,
        on_progress=on_progress,
    )
    attempt.check()
    earlier = ledger.spent(point.id, before=attempt.number)
    record = _outcome(point, result, session.corpus)
    record["notes"] += notes
    costs = _costs(point, result, earlier, time.monotonic() - began, session) | energy.facts()
    record["costs"] = costs
    record["provenance"] = {
        "job_id": attempt.job.id,
        "pack_size": 1,
        "attempt": attempt.number,
        "attempts": [
            {"attempt": number, "how": ending.how, "step": ending.step}
            for number, ending in sorted(attempt.job.endings().items())
        ],
        "resumed_at_steps": [*earlier.resumed_at, result.resumed_at],
        "data_kind": session.corpus.manifest.kind,
        "data_fingerprint": point.spec.data_fingerprint,
        "init_seed": point.spec.train.init_seed,
        "data_seed": point.spec.train.data_seed,
        "mesh": "x".join(map(str, session.mesh_shape)),
        "execution": result.execution.to_text(),
        **device,
        **software_facts(),
    }
    if not ledger.write_result(point.id, record):
        record = _standing(ledger, point)
    ledger.delete_checkpoints(attempt.job.id)
    return record


def _outcome(point: Point, result: Any, corpus: Any) -> dict[str, Any]:
    loss, manifest = result.loss_nats, corpus.manifest
    return {
        "status": result.status,
        "reason": result.reason,
        "loss_nats": loss,
        "bits_per_byte": None if loss is None else bits_per_byte(loss, manifest.bytes_per_token),
        "oracle_loss_nats": result.oracle_loss_nats,
        "curve": [dataclasses.asdict(row) for row in result.curve],
        "params_sha256": result.params_sha256,
        "flops": point.flops,
        "notes": list(result.notes),
    }


def _costs(
    point: Point, result: Any, earlier: Spent, wall_seconds: float, session: Session
) -> dict[str, Any]:
    """Seconds of this attempt by account, and of all attempts; speed of the steps it timed."""
    train_seconds, n_steps = result.seconds["train"], point.spec.train.schedule.n_steps
    steps_per_second = result.n_timed_steps / train_seconds if train_seconds else 0.0
    speeds = {c: steps_per_second * flops / n_steps for c, flops in point.flops.items()}
    peak = session.peak(point.spec.train.compute_dtype)
    n_devices = math.prod(session.mesh_shape)
    return {
        **{f"{name}_seconds": round(s, 3) for name, s in result.seconds.items()},
        "wall_seconds": round(wall_seconds, 3),
        "total_wall_seconds": round(earlier.wall_seconds + wall_seconds, 3),
        "device_seconds": round((earlier.wall_seconds + wall_seconds) * n_devices, 3),
        "resumed_at": result.resumed_at,
        "flops_per_second": round(speeds["matmul_full"]),
        "peak_flops_per_second": round(peak.flops_per_second),
        "peak_flops_source": peak.source,
        **{f"mfu_{c}": _mfu(speeds[c], peak) for c in ("matmul_full", "matmul_causal")},
    }


def _mfu(flops_per_second: float, peak: Peak) -> float | None:
    share = mfu(flops_per_second, peak.flops_per_second)
    return None if share is None else round(share, 5)
