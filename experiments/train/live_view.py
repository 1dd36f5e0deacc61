# SPDX-License-Identifier: Apache-2.0
"""What a person sees on the terminal while a grid trains."""

import math
import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from experiments.executors.worker_events import Progress, Run
from experiments.plan.jobs import PlannedJob
from experiments.speed.calibration import Calibration, relative_seconds
from experiments.terminal.table import duration

PLAIN_LINE_SECONDS = 10.0  # Where the output is no terminal: at most one progress line so often.


class RunDisplay:
    """Live view of a grid: done by budget, every worker's run, time left.

    Args:
      n_points: that are asked for now, finished ones included.
      planned_jobs: that are still to be trained.
      calibration: for the time left and the share of the peak; may be None.
    """

    def __init__(
        self,
        console: Console,
        n_points: int,
        planned_jobs: Sequence[PlannedJob],
        calibration: Calibration | None,
    ):
        self.console, self.n_points, self.calibration = console, n_points, calibration
        self.n_done = n_points - sum(len(planned_job.job.results) for planned_job in planned_jobs)
        self.n_failed, self.began = 0, time.monotonic()
        self.weights = {
            planned_job.job.id: self._weight(planned_job) for planned_job in planned_jobs
        }
        self.work_left = sum(self.weights.values())
        self.work_done = 0.0
        # For the time left: what was trained here, in how many seconds of steps, on how many
        # workers at most, and which programs have been begun.
        self.trained, self.step_seconds, self.n_workers = 0.0, 0.0, 1
        self.programs = {planned_job.program for planned_job in planned_jobs}
        self.begun: set[tuple] = set()
        self.current: dict[int, tuple[PlannedJob, Progress]] = {}
        self.last_line = time.monotonic()
        self.live = Live(console=console, refresh_per_second=4, transient=True)

    def _weight(self, planned_job: PlannedJob) -> float:
        if self.calibration is not None:
            return self.calibration.job_seconds(planned_job)
        return relative_seconds(planned_job.flops["matmul_full"])

    def __enter__(self) -> "RunDisplay":
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def progress(self, slot: int, planned_job: PlannedJob, event: Progress) -> None:
        self.current[slot] = (planned_job, event)
        self.n_workers = max(self.n_workers, len(self.current))
        self.begun.add(planned_job.program)
        if self.console.is_terminal:
            self.live.start()
            self.live.update(self._view())
        elif time.monotonic() - self.last_line > PLAIN_LINE_SECONDS:
            self.last_line = time.monotonic()
            self.console.print(f"{self._summary()}; {self._run_line(planned_job, event)}")

    def done(self, slot: int, planned_job: PlannedJob, runs: Sequence[Run]) -> None:
        if (last := self.current.pop(slot, None)) is not None:
            self.trained += self._trained(*last)
            self.step_seconds += last[1].train_seconds
        self.begun.add(planned_job.program)
        self.n_done += len(planned_job.job.results)
        self.work_done += self.weights[planned_job.job.id]
        for run in runs:
            for note in run.notes:
                self.console.print(f"{planned_job.name}: {note}")
            if run.status != "ok":
                self.console.print(f"{planned_job.name}: {run.status}: {run.reason}")

    def failed(self, slot: int, planned_job: PlannedJob, reason: str, attempt: int) -> None:
        self.current.pop(slot, None)
        self.n_failed += 1
        self.console.print(f"{planned_job.name}: attempt {attempt} failed: {reason}")

    def elsewhere(self, planned_job: PlannedJob, reason: str) -> None:
        self.console.print(f"{planned_job.name}: {reason}; left to it, and looked at again later")

    def _trained(self, planned_job: PlannedJob, event: Progress) -> float:
        """What of its work was done in this attempt's seconds."""
        share = (event.step - event.resumed_at) / planned_job.n_steps
        return self.weights[planned_job.job.id] * share

    def _time_left(self) -> str:
        """Steps go on as fast as so far; all else that was waited for comes with a new program."""
        running = list(self.current.values())
        trained = self.trained + sum(self._trained(*one) for one in running)
        seconds = self.step_seconds + sum(event.train_seconds for _, event in running)
        if trained <= 0 or seconds <= 0:
            return "unknown"
        done = self.work_done + sum(
            self.weights[planned_job.job.id] * _share(planned_job, event)
            for planned_job, event in running
        )
        waited = max(0.0, (time.monotonic() - self.began) * self.n_workers - seconds)
        compiling = waited / len(self.begun) * len(self.programs - self.begun)
        left = (self.work_left - done) * seconds / trained + compiling
        return duration(left / self.n_workers)

    def _summary(self) -> str:
        failed = f", {self.n_failed} attempts failed" if self.n_failed else ""
        return (
            f"{self.n_done} of {self.n_points} runs done{failed}, "
            f"{duration(time.monotonic() - self.began)} gone, {self._time_left()} left"
        )

    def _run_line(self, planned_job: PlannedJob, event: Progress) -> str:
        seconds, n_new = event.train_seconds, event.step - event.resumed_at
        loss = math.nan if event.loss_nats is None else event.loss_nats
        line = f"{planned_job.name}: {_share(planned_job, event):4.0%} loss {loss:.3f}"
        if seconds <= 0 or not n_new:  # The first chunk compiles: it says nothing about speed.
            return line
        n_runs = len(planned_job.points)
        tokens_per_second = n_runs * event.n_tokens * n_new / event.step / seconds
        flops = n_new * planned_job.flops["matmul_full"] / planned_job.n_steps / seconds
        peak = self.calibration.peak_flops_per_second if self.calibration else 0.0
        share = f" (MFU {flops / peak:.0%})" if peak else ""
        left = (planned_job.job.steps[1] - event.step) / n_new * seconds
        return (
            f"{line} {tokens_per_second / 1e3:.0f}k tok/s {flops / 1e9:.0f} GFLOP/s{share} "
            f"{duration(left)} left"
        )

    def _view(self) -> Group:
        runs = [
            self._run_line(planned_job, event)
            for _, (planned_job, event) in sorted(self.current.items())
        ]
        return Group(Text(self._summary(), style="bold"), *(Text(line) for line in runs))


def _share(planned_job: PlannedJob, event: Progress) -> float:
    """Of the steps of a job, those that are done."""
    return max(0, event.step - planned_job.job.steps[0]) / planned_job.n_steps
