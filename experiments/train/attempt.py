# SPDX-License-Identifier: Apache-2.0
"""One attempt at a job: claim it, train its runs, write their results or how it ended."""

import contextlib
import dataclasses
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from experiments.executors.worker_events import Event, Progress
from experiments.executors.worker_settings import CHECKPOINT_SECONDS, LEASE_SECONDS, MAX_ATTEMPTS
from experiments.files.storage import DISK_ERRORS
from experiments.ledger.claims import How, JobFolder, Owned, Owner
from experiments.ledger.ledger import Ledger, Spent, is_lost
from experiments.machine.energy import EnergyMeter
from experiments.machine.peak import NO_PEAK, Peak
from experiments.machine.provenance import device_facts, software_facts
from experiments.plan.jobs import Job, PlannedJob, read
from experiments.plan.point import Point
from model.data.manifest import bits_per_byte
from model.hardware import mfu
from model.network.execution import Execution
from model.training.outcome import Interrupted, Order

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
      corpus, mesh_shape, execution, train: for train_pack of model/training/loop.py, or for
        what stands in for it.
      open_checkpoints: folder, attempt=N -> Checkpoints (model/training/checkpoint.py).
      stop: see Stop.
      emit: takes what happens.
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
    emit: Callable[[Event], None] = lambda event: None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    lease_seconds: float = LEASE_SECONDS
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
    """The records of a job's points, trained now unless they were; of a trunk, its own record.

    A trunk that a job begins from is trained first where it is missing or damaged.

    Raises:
      ValueError: if the job or its data are not what they should be.
      Owned: if somebody alive has it or its trunk, or took it from us.
      GaveUp: if it failed too often.
      Interrupted: if the session was asked to stop; there is a checkpoint unless it compiled.
    """
    folder = ledger.job(job_id)
    job = folder.job()
    if job is None:
        raise ValueError(f"no job {job_id} in {ledger.folder}. `isoflop run` makes them.")
    planned_job = read(job, ledger.read_point)
    if (records := _standing(ledger, job)) is not None:
        return records
    for point in planned_job.points:
        _check_data(ledger, point, session.corpus)
    if job.parent is not None:
        _ensure_trunk(ledger, job, session)
    if job.kind == "trunk":
        _forget(ledger, job.id)
    number = folder.claim(
        session.me, lease_seconds=session.lease_seconds, max_attempts=session.max_attempts
    )
    with Attempt(folder, number, session) as attempt:
        notes = [ledger.set_aside_damaged(point) for point in job.results]
        # Whoever had the job may have finished it before we claimed it.
        if (records := _standing(ledger, job)) is not None:
            return records
        return _train(ledger, planned_job, attempt, session, notes)


def _standing(ledger: Ledger, job: Job) -> list[dict[str, Any]] | None:
    """What came out of a job that is done; None where anything is missing or damaged."""
    if job.kind == "trunk":
        record = ledger.read_trunk(job.id)
        return [record] if record is not None and ledger.has_trunk(job.id) else None
    if not all(ledger.has_intact_result(point) for point in job.results):
        return None
    records = [ledger.read_result(point) for point in job.results]
    return [record for record in records if record is not None]


def _ensure_trunk(ledger: Ledger, job: Job, session: Session) -> None:
    """Trains what a job begins from, unless it is there and whole."""
    assert job.parent is not None
    record = ledger.read_trunk(job.parent)
    if record is not None and not is_lost(record):
        saved = session.open_checkpoints(ledger.checkpoints(job.parent), attempt=0)
        if not saved.has_intact(job.steps[0]):
            _forget(ledger, job.parent)
    run_job(ledger, job.parent, session)


def _forget(ledger: Ledger, trunk_id: str) -> None:
    """Of a trunk whose checkpoint is lost or damaged: its record, and that somebody has it."""
    if ledger.set_aside_trunk(trunk_id):
        job = ledger.job(trunk_id)
        job.end(job.newest(), "preempted", "what it had trained was lost", 0)


def _check_data(ledger: Ledger, point: Point, corpus: Any) -> None:
    planned, found = point.spec.data_fingerprint, corpus.manifest.fingerprint
    if planned != found:
        raise ValueError(
            f"run {point.id} was planned for other data ({planned[:12]}) than lie in "
            f"{ledger.data} ({found[:12]}). Run the study again."
        )


def _train(
    ledger: Ledger,
    planned_job: PlannedJob,
    attempt: Attempt,
    session: Session,
    notes: list[list[str]],
) -> list[dict[str, Any]]:
    """Trains a job's runs and creates their results, or a trunk's record; those that stand."""
    job, points = planned_job.job, planned_job.points
    dtype = points[0].spec.train.compute_dtype
    peak = session.peak(dtype)
    provenance = device_facts() | software_facts()
    began, energy = time.monotonic(), EnergyMeter(provenance["platform"])

    def on_progress(rows: tuple[Any, ...]) -> None:
        energy.joules()  # Often enough that no counter starts over unseen.
        spent = {
            "wall_seconds": round(time.monotonic() - began, 3),
            "peak_flops_per_second": round(peak.flops_per_second),
        }
        written = [dataclasses.asdict(row) | spent for row in rows]
        for owner, row in zip(job.reports_as, written, strict=False):
            ledger.write_metrics(owner, attempt.number, row)
        session.emit(_progress(job.id, rows[0]))

    def checkpoints(job_id: str) -> Any:
        return session.open_checkpoints(ledger.checkpoints(job_id), attempt=attempt.number)

    parent = None if job.parent is None else ledger.read_trunk(job.parent)
    if parent is not None and is_lost(parent):
        outcomes, results = [_lost_outcome(reason) for reason in parent["reasons"]], ()
    else:
        results = session.train(
            points[0].spec.model,
            [point.spec.train for point in points],
            session.corpus,
            mesh_shape=session.mesh_shape,
            execution=session.execution,
            checkpoints=checkpoints(job.id),
            checkpoint_seconds=session.checkpoint_seconds,
            trunk=None if job.parent is None else checkpoints(job.parent),
            until=job.steps[1] if job.kind == "trunk" else None,
            control=attempt.control,
            on_phase=session.stop.enter,
            on_progress=on_progress,
        )
        outcomes = [_outcome(result, session.corpus) for result in results]
    attempt.check()
    earlier = ledger.spent(job.reports_as[0], before=attempt.number)
    costs = _costs(planned_job, results, earlier, time.monotonic() - began, session) | {
        name: value / len(points) if name == "joules" and value else value
        for name, value in energy.facts().items()
    }
    provenance = _provenance(planned_job, results, earlier, attempt, session) | provenance
    if job.kind == "trunk":
        record = _trunk_record(planned_job, outcomes) | {"costs": costs, "provenance": provenance}
        ledger.write_trunk(job.id, record)
        return [record]
    for point, outcome, more in zip(points, outcomes, notes, strict=True):
        train = point.spec.train
        share = planned_job.n_steps / train.schedule.n_steps
        seeds = {"init_seed": train.init_seed, "data_seed": train.data_seed}
        record = outcome | {
            "notes": outcome["notes"] + more,
            "flops": point.flops,
            "flops_spent": {c: flops * share for c, flops in point.flops.items()},
            "costs": costs,
            "provenance": provenance | seeds,
        }
        ledger.write_result(point.id, record)
    ledger.delete_checkpoints(job.id)
    records = _standing(ledger, job)
    assert records is not None, job.id
    return records


def _progress(job_id: str, row: Any) -> Progress:
    return Progress(
        id=job_id,
        step=row.step,
        resumed_at=row.resumed_at,
        n_tokens=row.n_tokens,
        train_seconds=row.train_seconds,
        loss_nats=row.loss_nats if math.isfinite(row.loss_nats) else None,
    )


def _outcome(result: Any, corpus: Any) -> dict[str, Any]:
    loss, manifest = result.loss_nats, corpus.manifest
    return {
        "status": result.status,
        "reason": result.reason,
        "loss_nats": loss,
        "bits_per_byte": None if loss is None else bits_per_byte(loss, manifest.bytes_per_token),
        "oracle_loss_nats": result.oracle_loss_nats,
        "curve": [dataclasses.asdict(row) for row in result.curve],
        "params_sha256": result.params_sha256,
        "notes": list(result.notes),
    }


def _lost_outcome(reason: str) -> dict[str, Any]:
    """Of a run whose trunk diverged: it would have diverged there, too."""
    nothing = dict.fromkeys(("loss_nats", "bits_per_byte", "oracle_loss_nats"))
    rest = {"curve": [], "params_sha256": "", "notes": []}
    return {"status": "diverged", "reason": reason} | nothing | rest


def _trunk_record(planned_job: PlannedJob, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "step": planned_job.job.steps[1],
        "clusters": sorted({point.cluster_id for point in planned_job.points}),
        "reasons": [outcome["reason"] for outcome in outcomes],
        "flops_spent": planned_job.flops,
        "notes": list(dict.fromkeys(note for one in outcomes for note in one["notes"])),
    }


def _provenance(
    planned_job: PlannedJob, results: Any, earlier: Spent, attempt: Attempt, session: Session
) -> dict[str, Any]:
    execution = results[0].execution if results else session.execution
    began = [result.resumed_at for result in results[:1]]
    return {
        "job_id": planned_job.job.id,
        "pack_size": len(planned_job.points),
        "trunk": planned_job.job.parent or "",
        "attempt": attempt.number,
        "attempts": [
            {"attempt": number, "how": ending.how, "step": ending.step}
            for number, ending in sorted(attempt.job.endings().items())
        ],
        "resumed_at_steps": [*earlier.resumed_at, *began],
        "data_kind": session.corpus.manifest.kind,
        "data_fingerprint": planned_job.points[0].spec.data_fingerprint,
        "mesh": "x".join(map(str, session.mesh_shape)),
        "execution": execution.to_text(),
    }


def _costs(
    planned_job: PlannedJob, results: Any, earlier: Spent, wall_seconds: float, session: Session
) -> dict[str, Any]:
    """One run's share of the seconds of this attempt, by account, and of all attempts; the speed
    of all runs together, in the steps that were timed."""
    n_runs, n_devices = len(planned_job.points), math.prod(session.mesh_shape)
    seconds = results[0].seconds if results else {}
    train_seconds = seconds.get("train", 0.0)
    n_timed = results[0].n_timed_steps if results else 0
    steps_per_second = n_timed / train_seconds if train_seconds else 0.0
    speeds = {
        c: steps_per_second * flops / planned_job.n_steps for c, flops in planned_job.flops.items()
    }
    peak = session.peak(planned_job.points[0].spec.train.compute_dtype)
    total = (earlier.wall_seconds + wall_seconds) / n_runs
    return {
        **{f"{name}_seconds": round(s / n_runs, 3) for name, s in seconds.items()},
        "wall_seconds": round(wall_seconds / n_runs, 3),
        "total_wall_seconds": round(total, 3),
        "device_seconds": round(total * n_devices, 3),
        "resumed_at": results[0].resumed_at if results else planned_job.job.steps[0],
        "flops_per_second": round(speeds["matmul_full"]),
        "peak_flops_per_second": round(peak.flops_per_second),
        "peak_flops_source": peak.source,
        **{f"mfu_{c}": _mfu(speeds[c], peak) for c in ("matmul_full", "matmul_causal")},
    }


def _mfu(flops_per_second: float, peak: Peak) -> float | None:
    share = mfu(flops_per_second, peak.flops_per_second)
    return None if share is None else round(share, 5)
