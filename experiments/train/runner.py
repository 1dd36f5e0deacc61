# SPDX-License-Identifier: Apache-2.0
"""Plan minus done -> jobs -> local workers. May be killed and restarted, or run twice, any time."""

import contextlib
import math
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from experiments.executors.local import run_jobs
from experiments.executors.local_devices import Workers
from experiments.executors.local_queue import LocalJob
from experiments.files.checked_json import Damaged
from experiments.ledger.claims import GaveUp, JobFolder, Owned, Owner, this_process
from experiments.ledger.ledger import Ledger
from experiments.plan.jobs import PlannedJob
from experiments.plan.point import Point

Failures = list[tuple[Point, str]]


class Display(Protocol):
    """Shows what happens; see experiments/train/live_view.py."""

    def progress(self, slot: int, planned_job: PlannedJob, event: dict[str, Any]) -> None: ...

    def done(self, slot: int, planned_job: PlannedJob, runs: Sequence[dict[str, Any]]) -> None: ...

    def failed(self, slot: int, planned_job: PlannedJob, reason: str, attempt: int) -> None: ...

    def elsewhere(self, planned_job: PlannedJob, reason: str) -> None: ...


def run_planned_jobs(
    ledger: Ledger,
    planned_jobs: Sequence[PlannedJob],
    mesh: tuple[int, ...],
    workers: Workers,
    display: Display,
) -> Failures:
    """Trains every job; returns the points that failed with their reason.

    Raises:
      ValueError: if a worker refused its input (mesh, data, spec): nothing else was started.
      DiskError: if the results folder cannot be written; finished points are kept.
      KeyboardInterrupt: passed on, after the workers were stopped.
    """
    watch = _Watch(ledger, planned_jobs, workers.max_attempts, display)
    ahead = _flops_ahead(planned_jobs)
    here = {planned_job.job.id for planned_job in planned_jobs}
    jobs = [
        LocalJob(
            id=planned_job.job.id,
            program=planned_job.program,
            size=ahead[planned_job.job.id],
            after=planned_job.job.parent if planned_job.job.parent in here else None,
        )
        for planned_job in planned_jobs
    ]
    run_jobs(ledger.folder, jobs, mesh, workers, watch)
    return watch.failures


def _flops_ahead(planned_jobs: Sequence[PlannedJob]) -> dict[str, float]:
    """Of each job, what the longest chain that begins with it costs: such a one should begin soon.

    Children come after their parents in ``planned_jobs``.
    """
    ahead: dict[str, float] = {}
    after: dict[str, float] = {}
    for planned_job in reversed(planned_jobs):
        job = planned_job.job
        ahead[job.id] = planned_job.flops["matmul_full"] + after.get(job.id, 0.0)
        if job.parent is not None:
            after[job.parent] = max(after.get(job.parent, 0.0), ahead[job.id])
    return ahead


def _owner(job: JobFolder, number: int) -> Owner | None:
    """Who made a claim; None where nobody did or it is damaged."""
    try:
        return job.owner(number) if number else None
    except Damaged:
        return None


class _Watch:
    """Passes events on to the display, and writes down how workers died that could not."""

    def __init__(
        self,
        ledger: Ledger,
        planned_jobs: Sequence[PlannedJob],
        max_attempts: int,
        display: Display,
    ):
        self.ledger, self.max_attempts, self.display = ledger, max_attempts, display
        self.planned_jobs = {planned_job.job.id: planned_job for planned_job in planned_jobs}
        self.failures: Failures = []
        self.told: set[str] = set()

    def event(self, slot: int, job_id: str, event: dict[str, Any]) -> None:
        planned_job = self.planned_jobs[job_id]
        if event["event"] == "progress":
            self.display.progress(slot, planned_job, event)
        elif event["event"] == "done":
            self.display.done(slot, planned_job, event["runs"])
        elif event["event"] == "owned":
            if job_id not in self.told:  # It is asked for again and again.
                self.display.elsewhere(planned_job, event["reason"])
            self.told.add(job_id)
        else:
            self._gave_up(planned_job, event["reason"])

    def _gave_up(self, planned_job: PlannedJob, reason: str) -> None:
        if planned_job.job.kind != "trunk":  # Of a trunk, what begins from it is told one by one.
            self.failures += [(point, reason) for point in planned_job.points]

    def died(
        self, slot: int, job_id: str, pid: int, reason: str
    ) -> Literal["again", "done", "lost"]:
        planned_job = self.planned_jobs[job_id]
        if self._is_done(planned_job):  # It died between its result and its word.
            self.display.done(slot, planned_job, [])
            return "done"
        job, me = self.ledger.job(job_id), this_process()
        with contextlib.suppress(Owned, GaveUp):
            number = job.newest()
            owner = _owner(job, number)
            if owner is None or (owner.boot_id, owner.pid) != (me.boot_id, pid):
                # It died before it could say that it was there.
                number = job.claim(me, lease_seconds=math.inf, max_attempts=self.max_attempts)
            job.end(number, "killed", reason, job.newest_step())
        failures = job.failures()
        self.display.failed(slot, planned_job, reason, len(failures))
        if len(failures) < self.max_attempts:
            return "again"
        self._gave_up(planned_job, reason)
        return "lost"

    def _is_done(self, planned_job: PlannedJob) -> bool:
        if planned_job.job.kind == "trunk":
            return self.ledger.has_trunk(planned_job.job.id)
        return all(self.ledger.has_intact_result(point) for point in planned_job.job.results)
