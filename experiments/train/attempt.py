# SPDX-License-Identifier: Apache-2.0
"""One attempt at a job: claim it, train its runs, write their results or how it ended."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from experiments.executors import worker_events
from experiments.ledger.ledger import Ledger
from experiments.ledger.result import Result, Trunk
from experiments.machine.energy import EnergyMeter
from experiments.machine.peak import Peak
from experiments.machine.provenance import device_facts, software_facts
from experiments.plan.jobs import Job, PlannedJob, read
from experiments.plan.point import Point
from experiments.study.study import keeps_weights
from experiments.train.build_records import Outcome
from experiments.train.early_stop import watch
from experiments.train.kept_weights import KeptWeights
from experiments.train.session import Attempt, Session
from model.training.outcome import Progress, TrainResult

if TYPE_CHECKING:
    from model.training.checkpoints.checkpoint import Checkpoints


def run_job(ledger: Ledger, job_id: str, session: Session) -> Sequence[Result | Trunk]:
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
        _check_data(ledger, point, session.corpora)
        _check_dtype(point)
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


def _standing(ledger: Ledger, job: Job) -> Sequence[Result | Trunk] | None:
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
    if record is not None and not record.is_lost:
        saved = session.open_checkpoints(ledger.checkpoints(job.parent), attempt=0)
        if not saved.has_intact(job.steps[0]):
            _forget(ledger, job.parent)
    run_job(ledger, job.parent, session)


def _forget(ledger: Ledger, trunk_id: str) -> None:
    """Of a trunk whose checkpoint is lost or damaged: its record, and that somebody has it."""
    if ledger.set_aside_trunk(trunk_id):
        job = ledger.job(trunk_id)
        job.end(job.newest(), "preempted", "what it had trained was lost", 0)


def _check_data(ledger: Ledger, point: Point, found: Iterable[str]) -> None:
    planned = point.spec.data_fingerprint
    if planned not in found:
        raise ValueError(
            f"run {point.id} was planned for other data ({planned[:12]}) than lie in "
            f"{ledger.data} ({', '.join(one[:12] for one in found)}). Run the study again."
        )


def _check_dtype(point: Point) -> None:
    if point.spec.train.compute_dtype == "bfloat16" and device_facts()["platform"] == "cpu":
        raise ValueError(
            f"run {point.id} computes in bfloat16, which is for GPUs and TPUs, and this is a CPU. "
            "Train it there, or ask for recipe.compute_dtype=float32 "
            "recipe.bfloat16_from_params=null, which is another run."
        )


def _train(
    ledger: Ledger,
    planned_job: PlannedJob,
    attempt: Attempt,
    session: Session,
    notes: list[list[str]],
) -> Sequence[Result | Trunk]:
    """Trains a job's runs and creates their results, or a trunk's record; those that stand.

    Args:
      notes: of each run, what is to be said besides what training says.
    """
    job = planned_job.job
    facts = device_facts() | software_facts()
    peak = session.peak(planned_job.points[0].spec.train.compute_dtype)
    meter = _Meter(peak, EnergyMeter(facts["platform"]))
    parent = None if job.parent is None else ledger.read_trunk(job.parent)
    weights = KeptWeights(ledger, planned_job.points, attempt.check)
    results: Sequence[TrainResult] = ()
    if parent is None or not parent.is_lost:
        report = _reporter(ledger, job, attempt, session, meter)
        results = _trained(ledger, planned_job, attempt, session, report, weights)
    attempt.check()
    outcome = Outcome(
        planned_job=planned_job,
        results=results,
        lost=parent.reasons if parent is not None and parent.is_lost else (),
        session=session,
        weights=weights.sha256,
        attempt=attempt.number,
        endings=attempt.job.endings(),
        earlier=ledger.metrics.spent(job.reports_as[0], before=attempt.number),
        reports=[ledger.metrics.history(run_id) for run_id in job.results],
        wall_seconds=meter.wall_seconds,
        energy=meter.energy.facts(),
        facts=facts,
    )
    if job.kind == "trunk":
        trunk = outcome.trunk()
        ledger.write_trunk(job.id, trunk)
        return [trunk]
    for point, result in zip(planned_job.points, outcome.run_results(notes), strict=True):
        ledger.write_result(point.id, result)
    ledger.delete_checkpoints(job.id)
    standing = _standing(ledger, job)
    assert standing is not None, job.id
    return standing


class _Meter:
    """What this attempt takes from now on."""

    def __init__(self, peak: Peak, energy: EnergyMeter):
        self.peak, self.energy, self._began = peak, energy, time.monotonic()

    @property
    def wall_seconds(self) -> float:
        return time.monotonic() - self._began


def _reporter(
    ledger: Ledger, job: Job, attempt: Attempt, session: Session, meter: _Meter
) -> Callable[[tuple[Progress, ...]], None]:
    """What is called with the progress of each run: it writes metrics and tells the runner."""

    def report(rows: tuple[Progress, ...]) -> None:
        meter.energy.joules()  # Often enough that no counter starts over unseen.
        spent = {
            "wall_seconds": round(meter.wall_seconds, 3),
            "peak_flops_per_second": round(meter.peak.flops_per_second),
            "n_sharing": len(job.reports_as) * session.per_device,
        }
        written = [_flat(row) | spent for row in rows]
        for owner, row in zip(job.reports_as, written, strict=False):
            ledger.metrics.write(owner, attempt.number, row)
        session.emit(_event(job.id, rows[0]))

    return report


def _flat(row: Progress) -> dict[str, Any]:
    """What the layers say stands beside the other numbers."""
    fields = dataclasses.asdict(row)
    return fields | fields.pop("said")


def _event(job_id: str, row: Progress) -> worker_events.Progress:
    return worker_events.Progress(
        id=job_id,
        step=row.step,
        resumed_at=row.resumed_at,
        n_tokens=row.n_tokens,
        train_seconds=row.train_seconds,
        loss_nats=row.loss_nats if math.isfinite(row.loss_nats) else None,
    )


def _trained(
    ledger: Ledger,
    planned_job: PlannedJob,
    attempt: Attempt,
    session: Session,
    report: Callable[[tuple[Progress, ...]], None],
    weights: KeptWeights,
) -> Sequence[TrainResult]:
    """What the training loop gives for the runs of a job."""
    job, points = planned_job.job, planned_job.points
    curve = watch(ledger, planned_job, is_asked=session.stop_early)
    is_kept = keeps_weights(session.keep, points[0].params.total)  # All are of one size.

    def checkpoints(job_id: str) -> "Checkpoints":
        return session.open_checkpoints(ledger.checkpoints(job_id), attempt=attempt.number)

    results = session.train(
        points[0].spec.model,
        [point.spec.train for point in points],
        [session.corpora[point.spec.data_fingerprint] for point in points],
        mesh_shape=session.mesh_shape,
        execution=session.execution,
        checkpoints=checkpoints(job.id),
        checkpoint_seconds=session.checkpoint_seconds,
        trunk=None if job.parent is None else checkpoints(job.parent),
        until=job.steps[1] if job.kind == "trunk" else None,
        keep=weights if is_kept else None,
        control=curve.control(attempt.control),
        on_evaluated=curve.hear,
        on_phase=session.stop.enter,
        on_progress=report,
    )
    # The loop knows that it was given up, and not why.
    return [
        dataclasses.replace(one, reason=curve.reason) if one.status == "stopped" else one
        for one in results
    ]
