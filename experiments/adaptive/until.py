# SPDX-License-Identifier: Apache-2.0
"""isoflop run --until: train, fit, choose the next runs, until a goal is met or FLOPs are spent.

What was chosen in each round is in results/<study>/until.json before it is trained. Everything else
follows from the results, so that a loop that was killed at any moment goes on as if it had not.

Runs are chosen for what they tell per FLOP, or per device-second as earlier runs of the study took
them: on a small network a FLOP can take four times as long as on a large one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

from rich.console import Console

from experiments.adaptive.choose_points import choose_next, posterior_and_target, runs_of
from experiments.adaptive.family import family
from experiments.adaptive.prices import (
    Charge,
    device_seconds,
    planned_jobs_of,
    price,
    prices,
    spent,
)
from experiments.adaptive.until_surfaces import budget_needed, finished_runs
from experiments.executors.local_idle import IdleWorkers
from experiments.files import checked_json
from experiments.ledger.ledger import Ledger
from experiments.machine.jax_setup import prepare_to_fit
from experiments.plan.plan import plan
from experiments.plan.point import Point
from experiments.study.study import Study
from experiments.train.runner import Failures
from model.data.manifest import Manifest
from scaling.tables.units import power

if TYPE_CHECKING:
    from scaling.answers.goal import Goal
    from scaling.tables.runs import Runs

Per = Literal["flop", "device-second"]
FILE = "until.json"
# FLOPs spent by the end of each round, over those that may be: early rounds are cheap, they only
# tell where the later ones belong.
ROUND_ENDS = (0.05, 0.1, 0.17, 0.26, 0.38, 0.5, 0.7, 1.0)
_TARGETS = {"a": "exponent", "loss": "loss", "n_params_opt": "n_params_opt"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """When to stop.

    Attributes:
      goal: such as "ci(a) < 0.02".
      target_flops: training budget that N* and the loss of the goal are for; None for 10 times the
        study's largest.
      budget: most FLOPs to spend on all runs; None for those of the study's grid.
      per: what the gain of a run is set against.
    """

    goal: str
    target_flops: float | None = None
    budget: float | None = None
    per: Per = "flop"


class _Record(TypedDict):
    goal: str
    target_flops: float
    budget: float
    per: str
    rounds: list[list[str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Loop:
    """What stays the same from round to round.

    Attributes:
      study, ledger, console, goal: of the loop.
      record: what was asked, and what was chosen so far.
      grid: the points of the study.
      pool: what may be chosen, by id.
    """

    study: Study
    ledger: Ledger
    console: Console
    goal: Goal
    record: _Record
    grid: Sequence[Point]
    pool: Mapping[str, Point]


def train_until(
    asked: Asked,
    study: Study,
    *,
    ledger: Ledger,
    manifest: Manifest,
    console: Console,
    train: Callable[[list[Point], IdleWorkers], Failures],
) -> tuple[list[Point], Failures]:
    """The points that were chosen and trained, and those that failed.

    Args:
      train: trains points, with workers that wait for more.

    Raises:
      ValueError: for a goal, target or budget that cannot be, or a study with axes.
      Elsewhere: if an engine trains a round.
    """
    prepare_to_fit()
    from scaling.answers.goal import parse_goal

    if study.axes:
        raise ValueError("--until: a study with axes has no single law. Give axes=().")
    goal = parse_goal(asked.goal)
    grid = list(plan(study, manifest).points)
    target = asked.target_flops or 10 * study.budgets[-1]
    most = asked.budget or price(study, (), grid)
    if not all(math.isfinite(flops) and flops > 0 for flops in (target, most)):
        raise ValueError("--target-flops and --budget must be positive FLOPs.")
    pool = {point.id: point for point in (*grid, *family(study, manifest, most))}
    question = _Record(goal=goal.text, target_flops=target, budget=most, per=asked.per, rounds=[])
    record = _read(ledger, question)
    # What is there already is known already.
    if not record["rounds"] and (known := [p.id for p in grid if ledger.has_result(p.id)]):
        record["rounds"].append(known)
    loop = _Loop(
        study=study, ledger=ledger, console=console, goal=goal, record=record, grid=grid, pool=pool
    )
    with IdleWorkers() as idle:
        return _rounds(loop, lambda points: train(points, idle))


def _rounds(loop: _Loop, train: Callable[[list[Point]], Failures]) -> tuple[list[Point], Failures]:
    """Trains what was chosen, chooses, and begins again; as `train_until`."""
    study, ledger, console, record = loop.study, loop.ledger, loop.console, loop.record
    target, most = record["target_flops"], record["budget"]
    failures: Failures = []
    runs, needed = runs_of([], study.flops), math.inf
    while True:
        ids = [name for names in record["rounds"] for name in names]
        points = [loop.pool.get(name) or ledger.read_point(name) for name in ids]
        if points:
            failures = train(points)
            runs = finished_runs(ledger, study, points)
            said = f"{power(spent(study, ledger, points))} of {power(most)} FLOPs spent"
            needed = budget_needed(loop.goal, runs, target, console, said)
            if needed == 1.0:
                return points, failures
        chosen = _choose(loop, points, runs, needed)
        if not chosen:
            time = "" if record["per"] == "flop" else ", or the time that the grid takes for them,"
            console.print(f"{power(most)} FLOPs{time} are spent, and {loop.goal.text} is not met.")
            return points, failures
        record["rounds"].append([point.id for point in chosen])
        ledger.storage.replace(FILE, checked_json.encode(record))


def _read(ledger: Ledger, asked: _Record) -> _Record:
    """The rounds of the same question so far."""
    way_out = "Delete it: finished runs are kept and used."
    record = checked_json.read(ledger.storage, FILE, _Record, way_out=way_out)
    return record if record is not None and {**record, "rounds": []} == asked else asked


def _choose(loop: _Loop, points: Sequence[Point], runs: Runs, needed: float) -> list[Point]:
    """The next round's runs; none where the budget pays for no further one.

    Args:
      points: of the rounds so far. runs: those that are finished.
      needed: as `budget_needed` tells: no round spends more than that asks for.
    """
    study, ledger, most = loop.study, loop.ledger, loop.record["budget"]
    has_trunk = ledger.has_trunk
    known = {point.id for point in points}
    rest = most - spent(study, ledger, points)
    pool = [point for name, point in loop.pool.items() if name not in known]
    flops = zip(pool, prices(study, points, pool, has_trunk), strict=True)
    affordable = [(point, price) for point, price in flops if price <= rest]
    if not affordable:
        return []
    left = [point for point, _ in affordable]
    charge, gone, whole = _account(loop, points)
    costs = [price for _, price in affordable]
    if charge is not None:
        costs = prices(study, points, left, has_trunk, charge)
    budget = _round_budget(gone, whole, min(costs), needed)
    if budget is None:
        return []
    posterior, target = posterior_and_target(
        runs,
        runs_of(left, study.flops),
        target=_TARGETS[loop.goal.quantity],
        flops=loop.record["target_flops"],
    )
    proposal, _ = choose_next(
        posterior,
        target,
        study=study,
        known=points,
        left=left,
        has_trunk=has_trunk,
        budget=budget,
        charge=charge,
    )
    chosen = [left[row] for row in proposal.rows]
    while (flops_of_all := price(study, points, chosen, has_trunk)) > rest:
        chosen.pop()
    loop.console.print(
        f"next: {len(chosen)} runs, {power(flops_of_all)} FLOPs, at "
        f"{', '.join(sorted({power(p.budget) for p in chosen}, key=float))} FLOPs"
    )
    return chosen


def _round_budget(gone: float, whole: float, least: float, needed: float) -> float | None:
    """What a round may spend; None where the whole pays for nothing more.

    Args:
      gone: what the rounds so far have spent of the whole.
      least: price of the cheapest run.
      needed: times what is gone that the goal should take.
    """
    if gone + least > whole:
        return None
    # The first round that pays for anything.
    share = next((s for s in ROUND_ENDS if s * whole - gone >= least), 1.0)
    return max(min(share * whole, needed * max(gone, least)) - gone, least)


def _account(loop: _Loop, points: Sequence[Point]) -> tuple[Charge | None, float, float]:
    """What jobs are charged, what the points have been, and what may be in all.

    FLOPs, where the charge is None. Device time only where finished runs tell it; all that may be
    spent is then the time of as many FLOPs of the study's grid.
    """
    study, ledger, most = loop.study, loop.ledger, loop.record["budget"]
    seconds = device_seconds(ledger, points) if loop.record["per"] == "device-second" else None
    if seconds is None:
        return None, spent(study, ledger, points), most
    gone = sum(map(seconds, planned_jobs_of(study, (), points)))
    per_flop = price(study, (), loop.grid, charge=seconds) / price(study, (), loop.grid)
    return seconds, gone, most * per_flop
