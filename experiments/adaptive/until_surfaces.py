# SPDX-License-Identifier: Apache-2.0
"""How far the runs so far are from a goal, by the surfaces that are fitted to them."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

from rich.console import Console

from experiments.adaptive.choose_points import runs_of
from experiments.ledger.ledger import Ledger
from experiments.plan.point import Point
from experiments.study.study import Study

if TYPE_CHECKING:
    from scaling.answers.goal import Goal
    from scaling.fit import Fit
    from scaling.tables.runs import Runs

# Least growth of what is spent, however near the goal is.
GROWTH = 1.05
# Bootstrap replicates of a round's fits: first as many as show that a goal is far, wider than _FAR
# times what it allows; where it is not, as many as every answer has.
_FEW, _ALL, _FAR = 200, 1000, 1.25


def finished_runs(ledger: Ledger, study: Study, points: list[Point]) -> Runs:
    from experiments.report.fits.analysis import grid_runs
    from scaling.fit import FitError

    try:
        return grid_runs(ledger, study, points)
    except FitError:
        return runs_of([], study.flops)


def budget_needed(goal: Goal, runs: Runs, target: float, console: Console, said: str) -> float:
    """How many times the FLOPs spent so far the goal should take; 1 where it is met.

    An interval narrows with the root of what is spent. Infinite where nothing is told of it.
    """
    from scaling.answers.goal import is_met
    from scaling.fit import FitError

    console.print("fitting ...")
    try:
        for n_bootstrap in (_FEW, _ALL):
            width, is_there = is_met(goal, fitted_surfaces(runs, n_bootstrap), target)
            if not width < _FAR * goal.limit:
                break
    except (FitError, ValueError):
        console.print(f"{said}; too few runs for an interval yet.")
        return math.inf
    shown = f"{100 * width:.3g} %" if goal.is_relative else f"{width:.4g}"
    console.print(f"{said}; ci({goal.quantity}) is {shown}, {goal.text} is asked for.")
    if is_there:
        return 1.0
    # Narrow enough and not met: the fit is not certified, and its width tells nothing.
    return max((width / goal.limit) ** 2, GROWTH) if width >= goal.limit else math.inf


def fitted_surfaces(runs: Runs, n_bootstrap: int) -> list[Fit]:
    """Those that give an answer."""
    from scaling.approaches.surface.fit import fit_surface
    from scaling.fit import FitError

    fits = []
    for law in ("additive", "curved"):
        with contextlib.suppress(FitError):
            fits.append(fit_surface(runs, law, n_bootstrap=n_bootstrap))
    return fits
