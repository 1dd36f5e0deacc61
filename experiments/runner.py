# SPDX-License-Identifier: Apache-2.0
"""Plan minus done -> jobs -> local workers. May be killed and restarted, or run twice, any time."""

import contextlib
import math
from collections.abc import Sequence
from typing import Any, Protocol

from experiments.claims import GaveUp, JobFolder, Owned, Owner, this_process
from experiments.executors.local import LocalJob, Workers, run_jobs
from experiments.jobs import Job, solo
from experiments.ledger import Ledger
from experiments.point import Point
from experiments.sealed import Damaged


class Display(Protocol):
    """Shows what happens; see experiments/display.py."""

    def progress(self, slot: int, point: Point, event: dict[str, Any]) -> None: ...

    def done(self, slot: int, point: Point, event: dict[str, Any]) -> None: ...

    def failed(self, slot: int, point: Point, reason: str, attempt: int) -> None: ...

    def elsewhere(self, point: Point, reason: str) -> None: ...


def arrange(points: Sequence[Point], mesh: tuple[int, ...]) -> list[Job]:
    """The jobs that compute the points: each alone."""
    return [solo(point, mesh) for point in points]


def missing_points(ledger: Ledger, points: Sequence[Point]) -> list[Point]:
    """Those without a result, and those whose result is damaged."""
    return [point for point in points if not ledger.has_intact_result(point.id)]


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
    watch = _Watch(ledger, points, workers.max_attempts, display)
    jobs = [
        LocalJob(id=point.id, program=_program(point), size=point.flops["matmul_full"])
        for point in missing_points(ledger, points)
    ]
    run_jobs(ledger.folder, jobs, mesh, workers, watch)
    return watch.failures


def _program(point: Point) -> tuple:
    train = point.spec.train
    return (point.spec.model, train.batch_size, train.compute_dtype)


def _owner(job: JobFolder, number: int) -> Owner | None:
    """Who made a claim; None where nobody did or it is damaged."""
    try:
        return job.owner(number) if number else None
    except Damaged:
        return None


class _Watch:
    """Passes events on to the display, and writes down how workers died that could not."""

    def __init__(self, ledger: Ledger, points: list[Point], max_attempts: int, display: Display):
        self.ledger, self.max_attempts, self.display = ledger, max_attempts, display
        self.points = {point.id: point for point in points}
        self.failures: list[tuple[Point, str]] = []
        self.told: set[str] = set()

    def event(self, slot: int, job_id: str, event: dict[str, Any]) -> None:
        point = self.points[job_id]
        if event["event"] == "progress":
            self.display.progress(slot, point, event)
        elif event["event"] == "done":
            self.display.done(slot, point, event)
        elif event["event"] == "owned":
            if job_id not in self.told:  # It is asked for again and again.
                self.display.elsewhere(point, event["reason"])
            self.told.add(job_id)
        else:
            self.failures.append((point, event["reason"]))

    def died(self, slot: int, job_id: str, pid: int, reason: str) -> bool:
        if self.ledger.has_intact_result(job_id):  # It died between its result and its word.
            self.display.done(slot, self.points[job_id], self.ledger.read_result(job_id) or {})
            return False
        job, me = self.ledger.job(job_id), this_process()
        with contextlib.suppress(Owned, GaveUp):
            number = job.newest()
            owner = _owner(job, number)
            if owner is None or (owner.boot_id, owner.pid) != (me.boot_id, pid):
                # It died before it could say that it was there.
                number = job.claim(me, lease_seconds=math.inf, max_attempts=self.max_attempts)
            job.end(number, "killed", reason, job.newest_step())
        failures = job.failures()
        self.display.failed(slot, self.points[job_id], reason, len(failures))
        if len(failures) < self.max_attempts:
            return True
        self.failures.append((self.points[job_id], reason))
        return False
