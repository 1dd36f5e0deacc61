# SPDX-License-Identifier: Apache-2.0
"""Plan minus done -> jobs -> executor. May be killed and restarted, or run twice, any time."""

import contextlib
import math
from collections.abc import Sequence
from typing import Literal

from experiments.executors import worker_events as events
from experiments.executors.base import Executor, QueuedJob
from experiments.files.checked_json import intact
from experiments.ledger.claims import GaveUp, Owned
from experiments.ledger.ledger import Ledger
from experiments.ledger.owner import this_process
from experiments.plan.jobs import PlannedJob
from experiments.plan.point import Point
from experiments.train.live_view import RunDisplay

Failures = list[tuple[Point, str]]


class Elsewhere(Exception):
    """An engine has what is left; what the user may look at, in words."""


def run_planned_jobs(
    ledger: Ledger,
    planned_jobs: Sequence[PlannedJob],
    jobs: Sequence[QueuedJob],
    executor: Executor,
    display: RunDisplay,
    *,
    max_attempts: int,
) -> Failures:
    """Has every job trained that may still be tried; returns the points that failed, with reasons.

    Args:
      jobs: what the executor is told of ``planned_jobs``, in their order.

    Raises:
      Elsewhere: if the executor goes on without us.
      ValueError: if a worker refused its input (mesh, data, spec): nothing else was started.
      DiskError: if the results folder cannot be written; finished points are kept.
      KeyboardInterrupt: passed on, after the workers were stopped.
    """
    watch = _Watch(ledger, planned_jobs, max_attempts, display)
    left: list[QueuedJob] = []
    given_up: set[str] = set()
    for job in jobs:
        failures = ledger.job(job.id).failures()
        if job.after not in given_up and len(failures) < max_attempts:
            left.append(job)
            continue
        given_up.add(job.id)
        lost = f"what it begins from, {job.after}, failed"
        watch.give_up(job.id, failures[-1].reason if failures else lost)
    if (said := executor.run(ledger.folder, left, watch)) is not None:
        raise Elsewhere(said)
    return watch.failures


class _Watch:
    """Passes events on to the display, and writes down how workers died that could not."""

    def __init__(
        self,
        ledger: Ledger,
        planned_jobs: Sequence[PlannedJob],
        max_attempts: int,
        display: RunDisplay,
    ):
        self.ledger, self.max_attempts, self.display = ledger, max_attempts, display
        self.planned_jobs = {planned_job.job.id: planned_job for planned_job in planned_jobs}
        self.failures: Failures = []
        self.told: set[str] = set()

    def event(self, slot: int, job_id: str, event: events.Event) -> None:
        planned_job = self.planned_jobs[job_id]
        match event:
            case events.Progress():
                self.display.progress(slot, planned_job, event)
            case events.Done(runs=runs):
                self.display.done(slot, planned_job, runs)
            case events.Owned(reason=reason):
                if job_id not in self.told:  # It is asked for again and again.
                    self.display.elsewhere(planned_job, reason)
                self.told.add(job_id)
            case events.GaveUp(reason=reason):
                self.give_up(job_id, reason)

    def give_up(self, job_id: str, reason: str) -> None:
        planned_job = self.planned_jobs[job_id]
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
            owner = intact(job.owner, number) if number else None
            if owner is None or (owner.boot_id, owner.pid) != (me.boot_id, pid):
                # It died before it could say that it was there.
                number = job.claim(me, lease_seconds=math.inf, max_attempts=self.max_attempts)
            job.end(number, "killed", reason, job.newest_step())
        failures = job.failures()
        self.display.failed(slot, planned_job, reason, len(failures))
        if len(failures) < self.max_attempts:
            return "again"
        self.give_up(job_id, reason)
        return "lost"

    def _is_done(self, planned_job: PlannedJob) -> bool:
        if planned_job.job.kind == "trunk":
            return self.ledger.has_trunk(planned_job.job.id)
        return all(self.ledger.has_intact_result(point) for point in planned_job.job.results)
