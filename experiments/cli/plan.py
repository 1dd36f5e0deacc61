# SPDX-License-Identifier: Apache-2.0
"""isoflop plan: the grid and its cost."""

import argparse
import collections
import json
from collections.abc import Sequence

import msgspec
from rich.console import Console, Group, RenderableType
from rich.text import Text

from experiments.adaptive.expected import expected_answer, notices
from experiments.adaptive.next_display import marks
from experiments.cli.opening.open_study import add_study, open_plan, open_study
from experiments.cli.options import cost as cost_options
from experiments.cli.options.training import add_workers
from experiments.cost import accuracy, display
from experiments.cost.target import Target, estimate_on, left_on, refuse_above
from experiments.ledger.ledger import Ledger
from experiments.plan.answerable import answers, forecast_budgets
from experiments.plan.plan import Plan
from experiments.plan.point import Point
from experiments.plan.trunks import Tree, beyond_horizon, grow, saving
from experiments.study.study import (
    MOST_KEPT_PARAMS,
    Study,
    axis_cells,
    keeps_weights,
    shown_axes,
)
from experiments.terminal.consoles import stderr
from experiments.terminal.table import COLUMNS, fitting_table, number_table, wrapped
from scaling.tables.units import power

HELP = "print the grid and its cost; trains nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add_workers(parser)
    cost_options.add_cost(parser)
    parser.add_argument("--json", action="store_true", help="every run, as one JSON object")


def run(options: argparse.Namespace, console: Console) -> None:
    study, ledger = open_study(options)
    planned, manifest = open_plan(study, ledger, stderr())
    if options.json:
        body = {
            "study": study.name,
            "runs": planned.points,
            "refused": planned.refused,
            "answers": answers(study, planned.points),
            "expected": expected_answer(study, planned.points),
        }
        console.print(json.dumps(msgspec.to_builtins(body), allow_nan=False))
        return
    if manifest.documents:
        console.print(manifest.documents)
    target = cost_options.target(options, n_workers=options.workers)
    show_plan(study, ledger, planned, target=target, max_cost=options.max_cost, console=console)


def show_plan(
    study: Study,
    ledger: Ledger,
    planned: Plan,
    *,
    target: Target,
    max_cost: float | None,
    console: Console,
) -> None:
    """The grid, its cost on a target, and what the last `isoflop next` said of it.

    Raises:
      ValueError: at the end, where it costs more than it may.
    """
    expected = estimate_on(target, study, ledger=ledger, plan=planned)
    points, speed = planned.points, expected.speed
    measured = None if speed is None else accuracy.accuracy(ledger, points, speed)
    console.print(plan_table(planned, is_branched=study.trunks))
    found = answers(study, points)
    said = [*_repeats(planned), *_forecasts(study), *found.notices]
    said += notices(expected_answer(study, points))
    if found.refusal:
        said.append(f"`isoflop run` refuses it: {found.refusal}")
    said.append(_kept(study, points))
    if line := beyond_horizon(points, study.recipe):
        said.append(line)
    for line in said:
        console.print(wrapped(line, "  "))
    left = left_on(target, study, ledger=ledger, plan=planned)
    console.print(display.cost_table(planned, expected, measured, left))
    for line in marks(ledger):
        console.print(wrapped(line, "  "))
    refuse_above(max_cost, expected)


def plan_table(plan: Plan, *, is_branched: bool = False) -> Group:
    """The grid, one line per budget and size.

    Args:
      is_branched: whether the study asks for trunks; then they are shown, too.
    """
    rows: dict[tuple, list[Point]] = collections.defaultdict(list)
    for point in plan.points:
        rows[point.budget, point.spec.model.d_model, tuple(point.axes.items())].append(point)
    shown = [_row(points[0], len(points)) for points in rows.values()]
    table = fitting_table(shown, COLUMNS, justify="right")
    lines: list[RenderableType] = [table, Text(_totals(plan))]
    if is_branched:
        lines += [Text(), *_trees(plan)]
    return Group(*lines, *(Text(wrapped(line, "  ")) for line in plan.left_out))


def _row(point: Point, n_runs: int) -> dict[str, str]:
    """Of one budget, size and setting; what matters most stands first."""
    return {
        "budget": power(point.budget),
        "d_model": str(point.spec.model.d_model),
        **axis_cells(point.axes),
        "params": f"{point.params.total:,}",
        "tokens": f"{point.n_tokens:,}",
        "tok/param": f"{point.n_tokens / point.params.total:.1f}",
        "runs": str(n_runs),
        "steps": str(point.spec.train.schedule.n_steps),
        "batch": str(point.spec.train.batch_size),
        "layers": str(point.spec.model.n_layers),
        "C/asked": f"{point.flops[point.convention] / point.budget:.4f}",
    }


def _trees(plan: Plan) -> list[RenderableType]:
    """Where points leave their trunks, one line per size, and what that saves."""
    columns = ("trunks", "d_model", "spent", "of", "saved")
    table = number_table(*columns)
    table.add_column("budgets, with the step at which they leave the trunk")
    trees = grow(plan.points)
    alike: dict[tuple, list[Tree]] = collections.defaultdict(list)
    for tree in trees:
        first = tree.points[0]
        branches = tuple(zip((p.budget for p in tree.points), tree.leaves_at, strict=True))
        alike[first.spec.model.d_model, tuple(first.axes.items()), branches].append(tree)
    for (d_model, axes, branches), members in alike.items():
        less = saving(members)
        text = " ".join(f"{power(budget)}@{step}" for budget, step in branches)
        more = f" {shown_axes(dict(axes))}" * bool(axes)
        table.add_row(
            str(len(members)),
            str(d_model),
            power(less.spent),
            power(less.attributed),
            f"{less.share:.1%}",
            text + more,
        )
    total = saving(trees)
    said = (
        f"{len(plan.points)} runs on {len(trees)} trunks: {power(total.spent, 4)} FLOPs are spent "
        f"for {power(total.attributed, 4)}, {total.share:.1%} less."
    )
    return [table, Text(said)]


def _kept(study: Study, points: Sequence[Point]) -> str:
    """Of how many runs the final weights will be kept, and how large they are."""
    kept = [p.params.total for p in points if keeps_weights(study.keep, p.params.total)]
    limit = f", networks of at most {MOST_KEPT_PARAMS:,} parameters" if study.keep == "auto" else ""
    size = 4 * sum(kept) / 1e6
    runs = f"{len(kept)} run{'s' * (len(kept) != 1)}"
    return f"final weights of {runs} are kept, {size:.3g} MB (keep={study.keep}{limit})"


def _totals(plan: Plan) -> str:
    convention = plan.points[0].convention
    flops = sum(point.flops[convention] for point in plan.points)
    tokens = sum(point.n_tokens for point in plan.points)
    return f"{len(plan.points)} runs, {power(flops)} FLOPs ({convention}), {tokens:.3g} tokens"


def _repeats(plan: Plan) -> list[str]:
    """How many runs read their training data more than once, if any do."""
    repeated = [point.epochs for point in plan.points if point.epochs and point.epochs > 1]
    said = (
        f"{len(repeated)} of them read their training data more than once, up to "
        f"{max(repeated, default=0):.2f} times; a repeated token is worth less than a new one."
    )
    return [said] * bool(repeated)


def _forecasts(study: Study) -> list[str]:
    """What is trained after the grid and not counted with it: its sizes follow from the fits."""
    return [
        f"then a run at {power(budget)} FLOPs, whose loss is forecast first: not counted above"
        for budget in forecast_budgets(study)
    ]
