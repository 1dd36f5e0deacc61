# SPDX-License-Identifier: Apache-2.0
"""isoflop run: train what a study asks for, fit, forecast, train the forecast, report.

Each part finds out from the ledger what is left of it, so the whole may be stopped and started
again anywhere.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console

from experiments.adaptive.until import Asked, train_until
from experiments.cli.opening.open_study import add_study, called, open_plan, open_study
from experiments.cli.options import cost as cost_options
from experiments.cli.options import until as until_options
from experiments.cli.options.answers import add_answer, show_answer, where
from experiments.cli.options.training import add_training, training
from experiments.cost import planned_cost
from experiments.cost.target import estimate_on, refuse_above
from experiments.executors.local_idle import IdleWorkers
from experiments.ledger.forecasts import Forecast
from experiments.ledger.ledger import Ledger, missing_points
from experiments.plan.answerable import answers
from experiments.plan.from_recipe import Refused
from experiments.plan.point import Point
from experiments.report import finished
from experiments.report.fits import missing_runs
from experiments.report.fits.missing_runs import TooManyMissing
from experiments.study.study import Study
from experiments.terminal.consoles import progress, stderr
from experiments.terminal.table import duration
from experiments.train.run_points import Training, require_none, stop_at_sigterm, train
from experiments.train.runner import Elsewhere, Failures
from model.data.manifest import Manifest
from scaling.tables.units import power

HELP = "train what is missing, fit, forecast, report; may be interrupted"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add_answer(parser)
    cost_options.add_cost(parser)
    until_options.add_until(parser)
    add_training(parser)
    missing_runs.add_option(parser)
    text = "train a grid that no approach can answer"
    parser.add_argument("--anyway", action="store_true", help=text)


def run(options: argparse.Namespace, console: Console) -> None:
    stop_at_sigterm()
    goal = until_options.asked(options)
    study, ledger = open_study(options)
    asked = training(options)
    notices = stderr()
    grid, manifest = open_plan(study, ledger, notices)
    found = answers(study, grid.points)
    for line in (*grid.left_out, *found.notices):
        notices.print(line)
    is_missing = bool(missing_points(ledger, grid.points))
    if found.refusal and is_missing and goal is None and not options.anyway:
        raise ValueError(found.refusal)
    is_here = options.on == "local"
    target = cost_options.target(options, n_workers=options.workers, is_here=is_here)
    expected = estimate_on(target, study, ledger=ledger, plan=grid)
    if options.max_cost is not None and is_missing:
        refuse_above(options.max_cost, expected)
    for line in planned_cost.remember(ledger, grid.points, expected):
        notices.print(line)
    work = Work(
        name=called(options),
        study=study,
        ledger=ledger,
        manifest=manifest,
        grid=list(grid.points),
        training=asked,
        allow_missing=options.allow_missing,
        console=notices,
        show=lambda answer: show_answer(options, ledger, answer, console),
    )
    answer_study(work, goal)


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A study that is to be answered.

    Attributes:
      name: what the command line calls it.
      study, ledger, manifest: of the study.
      grid: the planned points.
      training: how they are trained.
      allow_missing: share of the points that fits may do without.
      console: for progress and notices.
      show: given the answer.
    """

    name: str
    study: Study
    ledger: Ledger
    manifest: Manifest
    grid: list[Point]
    training: Training
    allow_missing: float
    console: Console
    show: Callable[[str], None]

    def train(
        self, points: list[Point], wanted: list[Point], idle: IdleWorkers | None = None
    ) -> Failures:
        return train(self.training, self.study, self.ledger, self.console, points, wanted, idle)


def answer_study(work: Work, goal: Asked | None) -> None:
    """Does what is left of the study, and shows its answer.

    Args:
      goal: until which runs are chosen; None trains the grid.

    Raises:
      RunsFailed: after the answer that the other runs allow.
      TooManyMissing: if they allow none; the tables are written.
      KeyboardInterrupt, Preempted: passed on, after workers have saved.
    """
    study, ledger, console = work.study, work.ledger, work.console
    began, grid = time.monotonic(), work.grid
    try:
        if goal is None:
            answer = finished.recall(ledger, study, grid, work.allow_missing, console.print)
            if answer is not None:
                work.show(answer)
                return
            failures = work.train(grid, grid)
        else:
            grid, failures = train_until(
                goal,
                study,
                ledger=ledger,
                manifest=work.manifest,
                console=console,
                train=lambda points, idle: work.train(points, points, idle),
            )
        points = list(grid)
        if study.forecast_budgets and not failures:
            for point in _forecasts(work, grid):
                points.append(point)
                failures += work.train(points, points[-1:])
    except Elsewhere as error:
        console.print(
            f"{error}\n`isoflop status {work.name} --watch` shows how it goes; the same command "
            "goes on when it is done, and submits again what has no result."
        )
        return
    try:
        answer = _answer(work, points)
    except TooManyMissing as error:
        if not failures:
            raise
        answer = str(error)
        console.print(answer)
    console.print(f"{duration(time.monotonic() - began)} in all.")
    require_none(failures, work.training.max_attempts, work.name)
    finished.remember(ledger, study, grid, points, answer, work.allow_missing)


def _forecasts(work: Work, grid: list[Point]) -> Iterator[Point]:
    """The points beyond the grid, each when its loss has been forecast."""
    from experiments.report.fits.analysis import analyse
    from experiments.report.forecast import make_forecast
    from scaling.fit import FitError

    study, ledger, console = work.study, work.ledger, work.console
    with progress(console) as tell:
        analysis = analyse(ledger, study, grid, allow_missing=work.allow_missing, tell=tell)
    for budget in study.forecast_budgets:
        try:
            made = make_forecast(ledger, study, work.manifest, analysis, budget)
        except (FitError, Refused) as error:
            console.print(f"no forecast at {power(budget)} FLOPs: {error}")
            continue
        console.print(_forecast_line(made))
        yield made.point


def _forecast_line(made: Forecast) -> str:
    law, forecast = next(iter(made.forecasts.items()))
    other = made.conformal
    conformal = (
        ""
        if other is None
        else (
            f"; conformal at {other.level:.0%}, the most that {other.n_budgets} budgets support: "
            f"{other.lower:.4f} to {other.upper:.4f}"
        )
    )
    return (
        f"forecast at {power(made.budget)} FLOPs, {made.point.params.total:,} parameters on "
        f"{made.point.n_tokens:,} tokens: {forecast.value:.4f} nats "
        f"({made.level:.0%} interval {_number(forecast.lower)} to "
        f"{_number(forecast.upper)}, {forecast.by(law)}){conformal}"
    )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def _answer(work: Work, points: list[Point]) -> str:
    """Writes and shows the answer; returns what was shown."""
    from experiments.report.answer import print_answer, write_answer
    from experiments.report.build import build
    from experiments.report.page.page import write

    study, ledger, console = work.study, work.ledger, work.console
    with progress(console) as tell:
        built = build(ledger, study, points, allow_missing=work.allow_missing, tell=tell)
        tell("drawing figures, writing the report")
        write(ledger, study, points, built)
    with console.capture() as capture:
        print_answer(console, built)
    write_answer(ledger, built)
    answer = f"{capture.get()}{where(ledger)}"
    work.show(answer)
    return answer
