# SPDX-License-Identifier: Apache-2.0
"""The budgets of an isoFLOP grid: their curves, what those tell, and which may be used."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from scaling.approaches.isoflop.curves import Curve, fewest, fit_curve, minima
from scaling.approaches.isoflop.draws import Draws, pooled_share
from scaling.approaches.isoflop.intervals import (
    NOT_SEEN,
    Minimum,
    drawn_minimum,
    polynomial_minimum,
    scatters,
    why_not,
)
from scaling.fit import FitError
from scaling.intervals import Interval
from scaling.laws.size_ladder import Ladder
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs
from scaling.tables.units import power
from scaling.uncertainty.groups import share_noise

_OVER = ("parameters", "tokens")
# Budgets whose reasons are written out where none can be fitted; the others are counted.
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """One budget of the grid.

    Fields:
      rows: indices of its runs. flops: geometric mean of those done.
      curves: over ln N, and over ln D where asked for; empty with too few sizes.
      found: the minimum of each curve. reason: why it is not used; empty when it is.
    """

    budget: float
    flops: float
    rows: Int[Array, " n"]
    curves: tuple[Curve, ...] = ()
    found: tuple[Minimum, ...] = ()
    reason: str = ""

    @property
    def minimum(self) -> Minimum:
        """Of the curve over ln N."""
        return self.found[0] if self.found else NOT_SEEN

    def token_interval(self, ladder: Ladder) -> Interval:
        """Of D*: its own curve's, or that of N* along the ladder."""
        if len(self.found) > 1:
            return self.found[1].size
        sizes = np.array([self.minimum.size.upper, self.minimum.size.lower])
        lower, upper = ladder.n_tokens(self.flops, sizes)
        return Interval(lower=float(lower), upper=float(upper))


def isoflop_budgets(
    runs: Runs, *, curve: str, tokens: str, accept: str, level: float
) -> list[Budget]:
    """Every budget by ascending FLOPs, with its curves, their minima and the verdict.

    Raises:
      FitError: when fewer than two can be used; every reason is given.
    """
    budgets = [
        _with_curves(runs, float(budget), curve, tokens, exact=accept == "any")
        for budget in runs.budgets
    ]
    able = [i for i, b in enumerate(budgets) if not b.reason]
    losses = [runs.loss_nats[budgets[i].rows] for i in able]
    # Over ln N, then over ln D: scatter is pooled among curves of one kind.
    for curves in zip(*(budgets[i].curves for i in able), strict=True):
        spread = scatters(curves, losses)
        what = _OVER[len(budgets[able[0]].found)]
        for i, one, scatter in zip(able, curves, spread, strict=True):
            found = NOT_SEEN
            if one.kind != "akima":
                found = polynomial_minimum(one, scatter, level)
            why = why_not(one, found, level, accept=accept, what=what)
            known = budgets[i]
            reason = known.reason or why
            budgets[i] = replace(known, found=(*known.found, found), reason=reason)
    _require_two(runs, budgets)
    return _with_shared_noise(runs, budgets, level) if share_noise(runs) else budgets


def _with_shared_noise(runs: Runs, budgets: list[Budget], level: float) -> list[Budget]:
    """The minima of used budgets with intervals for runs that share noise across budgets.

    Which budgets are used is part of the estimate, which shared noise does not move.
    """
    used = [i for i, b in enumerate(budgets) if not b.reason and b.curves[0].kind != "akima"]
    if not used:
        return budgets
    rows = [budgets[i].rows for i in used]
    fitted, losses = runs.select(np.concatenate(rows)), [runs.loss_nats[r] for r in rows]
    kinds = []
    for curves in zip(*(budgets[i].curves for i in used), strict=True):
        spread = scatters(curves, losses, pooled_share=pooled_share(fitted, curves))
        both = zip(curves, spread, strict=True)
        kinds.append([polynomial_minimum(curve, scatter, level) for curve, scatter in both])
    found = dict(zip(used, zip(*kinds, strict=True), strict=True))
    return [replace(b, found=found[i]) if i in found else b for i, b in enumerate(budgets)]


def _with_curves(runs: Runs, budget: float, kind: str, tokens: str, *, exact: bool) -> Budget:
    """A budget with its curves; one with too few runs carries the reason."""
    rows = np.flatnonzero(runs.budget == budget)
    flops = float(np.exp(np.log(runs.flops[rows]).mean()))
    n_here = len(np.unique(runs.n_params[rows]))
    n_sizes, n_runs = fewest(kind, exact=exact)
    reason = ""
    if n_here < n_sizes or len(rows) < n_runs:
        article = "an" if kind == "akima" else "a"
        reason = (
            f"{len(rows)} runs at {n_here} sizes, {article} {kind} needs {n_runs} runs at "
            f"{n_sizes} sizes"
        )
    curves: tuple[Curve, ...] = ()
    if n_here >= fewest(kind, exact=True)[0]:
        columns = (runs.n_params, runs.n_tokens)[: 2 if tokens == "curve" else 1]
        curves = tuple(fit_curve(kind, c[rows], runs.loss_nats[rows]) for c in columns)
    return Budget(budget=budget, flops=flops, rows=rows, curves=curves, reason=reason)


def _require_two(runs: Runs, budgets: Sequence[Budget]) -> None:
    n_used = sum(not b.reason for b in budgets)
    if n_used >= 2:
        return
    if len(budgets) < 2:
        raise FitError(
            f"a frontier needs at least two budgets, these {len(runs)} usable runs have "
            f"{len(budgets)}; name the column of budgets, or train at another one."
        )
    reasons = [f"{power(b.budget)} FLOPs: {b.reason}" for b in budgets if b.reason]
    raise FitError(
        f"interior minima at {n_used} of {len(budgets)} budgets, at least two are needed "
        f"{some_reasons(reasons, runs)}"
    )


def some_reasons(reasons: Sequence[str], runs: Runs) -> str:
    """Why budgets are not used, in parentheses, the first few of them; and the way out where most
    runs have FLOPs of their own."""
    more = [f"and {len(reasons) - _SHOWN} more"] if len(reasons) > _SHOWN else []
    way_out = (
        " Most runs have FLOPs of their own: if rounding makes them differ, name the column that "
        "says which budget each was meant for, --columns budget=COLUMN."
    )
    is_alone = 2 * len(runs.budgets) > len(runs)
    return f"({'; '.join([*reasons[:_SHOWN], *more])}).{way_out * is_alone}"


def with_drawn_intervals(budgets: Sequence[Budget], drawn: Draws, level: float) -> list[Budget]:
    """Intervals from replicates, for curves that have no degrees of freedom of their own."""
    used = [b for b in budgets if not b.reason]
    data = zip(*drawn.per_curve([b.curves[0] for b in used]), strict=True)
    changed = {}
    for entry, (targets, weights) in zip(used, data, strict=True):
        if len(targets):
            points = [minima(c, targets, weights, edges="kept") for c in entry.curves]
            found = (drawn_minimum(c, *p, level) for c, p in zip(entry.curves, points, strict=True))
            changed[entry.budget] = replace(entry, found=tuple(found))
    return [changed.get(b.budget, b) for b in budgets]
