# SPDX-License-Identifier: Apache-2.0
"""What a person sees on the terminal: the plan as a table, the grid while it trains."""

import collections
import time
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from experiments.calibration import Calibration
from experiments.plan import Plan
from experiments.point import Point

PLAN_COLUMNS = (
    *("budget", "d_model", "layers", "params", "tokens", "tok/param"),
    *("batch", "steps", "runs", "C/asked", "s/run"),
)
PLAIN_LINE_SECONDS = 10.0  # Where the output is no terminal: at most one progress line so often.


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def plan_table(plan: Plan, calibration: Calibration | None, n_workers: int) -> Group:
    """The grid, one line per budget and size, with costs as far as they are known."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in PLAN_COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    rows: dict[tuple, list[Point]] = collections.defaultdict(list)
    for point in plan.points:
        rows[point.budget, point.spec.model.d_model, tuple(point.axes.items())].append(point)
    for (budget, d_model, axes), points in rows.items():
        point = points[0]
        seconds = f"{calibration.seconds(point):.1f}" if calibration else "unknown"
        table.add_row(
            f"{budget:.3g}",
            str(d_model),
            str(point.spec.model.n_layers),
            f"{point.params.total:,}",
            f"{point.n_tokens:,}",
            f"{point.n_tokens / point.params.total:.1f}",
            str(point.spec.train.batch_size),
            str(point.spec.train.schedule.n_steps),
            str(len(points)),
            f"{point.flops[point.convention] / budget:.4f}",
            seconds,
            *(", ".join(f"{name}={value:g}" for name, value in axes),) * bool(axes),
        )
    lines: list[RenderableType] = [table, Text(_totals(plan, calibration, n_workers))]
    lines += [
        Text(f"refused: {r.budget:.3g}, d_model {r.d_model}: {r.reason}") for r in plan.refused
    ]
    return Group(*lines)


def _totals(plan: Plan, calibration: Calibration | None, n_workers: int) -> str:
    convention = plan.points[0].convention
    flops = sum(point.flops[convention] for point in plan.points)
    tokens = sum(point.n_tokens for point in plan.points)
    text = f"{len(plan.points)} runs, {flops:.3g} FLOPs ({convention}), {tokens:.3g} tokens"
    if calibration is None:
        return f"{text}; time unknown: `isoflop calibrate STUDY` measures this machine."
    seconds = sum(calibration.seconds(point) for point in plan.points)
    programs = {(p.spec.model, p.spec.train.batch_size) for p in plan.points}
    compiling = calibration.compile_seconds * len(programs)
    wall = (seconds + compiling) / n_workers
    return (
        f"{text}; {duration(seconds)} of training and {duration(compiling)} of compilation "
        f"(cold cache), about {duration(wall)} with {n_workers} workers on {calibration.device}."
    )


class RunDisplay:
    """Live view of a grid: done by budget, every worker's run, time left.

    Args:
      points: of this stage.
      n_done: of these, finished before.
      calibration: for the time left and the share of the peak; may be None.
    """

    def __init__(
        self, console: Console, points: list[Point], n_done: int, calibration: Calibration | None
    ):
        self.console, self.points, self.calibration = console, points, calibration
        self.n_done, self.n_failed, self.began = n_done, 0, time.monotonic()
        self.weights = {point.id: self._weight(point) for point in points}
        self.work_left = 0.0
        self.work_done = 0.0
        self.current: dict[int, tuple[Point, dict]] = {}
        self.last_line = time.monotonic()
        self.live = Live(console=console, refresh_per_second=4, transient=True)

    def expect(self, points: list[Point]) -> None:
        """The points that are still to be trained."""
        self.work_left = sum(self.weights[point.id] for point in points)

    def _weight(self, point: Point) -> float:
        if self.calibration is not None:
            return self.calibration.seconds(point)
        return point.flops["matmul_full"] ** 0.8  # Large runs reach more FLOP/s.

    def __enter__(self) -> "RunDisplay":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def progress(self, slot: int, point: Point, event: dict[str, Any]) -> None:
        self.current[slot] = (point, event)
        if self.console.is_terminal:
            self.live.update(self._view())
        elif time.monotonic() - self.last_line > PLAIN_LINE_SECONDS:
            self.last_line = time.monotonic()
            self.console.print(f"{self._summary()}; {self._run_line(point, event)}")

    def done(self, slot: int, point: Point, event: dict[str, Any]) -> None:
        self.current.pop(slot, None)
        self.n_done += 1
        self.work_done += self.weights[point.id]
        for note in event["notes"]:
            self.console.print(f"{_name(point)}: {note}")
        if event["status"] != "ok":
            self.console.print(f"{_name(point)}: {event['status']}: {event['reason']}")

    def failed(self, slot: int, point: Point, reason: str, attempt: int) -> None:
        self.current.pop(slot, None)
        self.n_failed += 1
        self.console.print(f"{_name(point)}: attempt {attempt} failed: {reason}")

    def elsewhere(self, point: Point, reason: str) -> None:
        self.console.print(f"{_name(point)}: {reason}; left to it, and looked at again later")

    def _time_left(self) -> str:
        running = sum(
            self.weights[point.id] * event["step"] / event["n_steps"]
            for point, event in list(self.current.values())
        )
        done = self.work_done + running
        if done <= 0:
            return "unknown"
        return duration((time.monotonic() - self.began) * (self.work_left - done) / done)

    def _summary(self) -> str:
        failed = f", {self.n_failed} attempts failed" if self.n_failed else ""
        return (
            f"{self.n_done} of {len(self.points)} runs done{failed}, "
            f"{duration(time.monotonic() - self.began)} gone, {self._time_left()} left"
        )

    def _run_line(self, point: Point, event: dict[str, Any]) -> str:
        step, n_steps, seconds = event["step"], event["n_steps"], event["train_seconds"]
        line = f"{_name(point)}: {step / n_steps:4.0%} loss {event['loss_nats']:.3f}"
        if seconds <= 0:  # The first chunk compiles: it says nothing about speed.
            return line
        share_of_attempt = 1 - event["resumed_at"] / step
        tokens_per_second = event["n_tokens"] * share_of_attempt / seconds
        flops = tokens_per_second * point.flops["matmul_full"] / point.n_tokens
        peak = self.calibration.peak_flops_per_second if self.calibration else 0.0
        share = f" (MFU {flops / peak:.0%})" if peak else ""
        left = (n_steps - step) / (step * share_of_attempt) * seconds
        return (
            f"{line} {tokens_per_second / 1e3:.0f}k tok/s {flops / 1e9:.0f} GFLOP/s{share} "
            f"{duration(left)} left"
        )

    def _view(self) -> Group:
        runs = [self._run_line(point, event) for _, (point, event) in sorted(self.current.items())]
        return Group(Text(self._summary(), style="bold"), *(Text(line) for line in runs))


def _name(point: Point) -> str:
    axes = "".join(f" {name.rsplit('.', 1)[-1]}={value:g}" for name, value in point.axes.items())
    return f"{point.budget:.3g} d{point.spec.model.d_model} seed {point.seed}{axes}"
