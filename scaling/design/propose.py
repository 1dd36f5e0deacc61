# SPDX-License-Identifier: Apache-2.0
"""Which runs to add: those that most narrow the interval of a target per FLOP spent.

For every draw of a `LawPosterior` the law is linear in its parameters to first order, so that
parameters, target and losses still to come are jointly normal, and what a run would tell follows
before it is trained: Bayesian c-optimal design for a scalar target, D-optimal for all parameters
(Chaloner and Verdinelli 1995). The worth of runs is the expected fall of the log width of the
target's interval, averaged over the draws: a mean of variances would be decided by the few draws
that nothing resolves.

Three things keep the design from serving a wrong additive law. gamma is uncertain, so that runs
which would show a curved truth are worth something (see `prior`). Repeats of one configuration
share their lack of fit. And the width counts, not the variance alone: Student's t widens an
interval while few configurations tell the scatter, which is what a lack of fit is seen by. What a
design of cheap runs by the additive form alone does under a curved truth is in
results/benchmarks/notes/design.md: an interval as narrow as the grid's, and beside the truth.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real

from scaling.design.outlook import Outlook, joined, outlook
from scaling.design.posterior import LawPosterior
from scaling.design.prior import N_ADDITIVE
from scaling.design.target import Target
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs
from scaling.tables.short_repr import ShortRepr
from scaling.tables.units import power
from scaling.uncertainty.groups import configurations

# Of the whole budget, charged to each run in the choice only: hundreds of runs that cost nothing
# and tell nothing would fill a proposal otherwise.
_PER_RUN = 0.02
# Exchanges are for proposals of so few runs: on larger ones they narrow by a hundredth, at ten
# times the time. Their rounds, and the least gain in log width that counts.
_FEW, _EXCHANGES, _NO_GAIN = 12, 3, 1e-4


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Proposal(ShortRepr):
    """Runs to add.

    Fields:
      rows: of the planned runs, in the order of their choice. share: of the expected narrowing,
        [rows]. cost: of all. ratio: expected width of the interval after them over that before
        (of all parameters: the geometric mean of their widths); NaN where the finished runs are
        too few for an interval.
    """

    rows: tuple[int, ...]
    share: Float[Array, " n"]
    cost: float
    ratio: float
    findings: tuple[str, ...]


def propose(
    posterior: LawPosterior,
    target: Target,
    planned: Runs,
    cost: Real[Array, " n"],
    *,
    budget: float,
    rounds: int = 1,
    taken: Sequence[int] = (),
) -> Proposal:
    """The planned runs that most narrow the target's interval within a budget.

    Args:
      planned: candidates; losses are not read. Runs of one cluster_id are branches of one trunk.
      cost: what each would spend, in the budget's unit; a branch of a trunk that exists spends
        less than its `flops`.
      budget: for all rounds together.
      rounds: how often the choice is made again with what was learned: what comes back is the
        first round of the whole proposal, its cheapest runs up to budget / rounds, at least one.
      taken: rows that will be run in any case, not out of the budget; they come first.

    Raises:
      ValueError: as `require_affordable`.
    """
    cost = np.asarray(cost, float)
    require_affordable(planned, cost, budget, rounds)
    members = _alike(joined(posterior.runs, planned), len(posterior.runs), cost)
    first = np.array([rows[0] for rows in members])
    start = outlook(posterior, target, planned.select(first))
    group = {int(row): g for g, rows in enumerate(members) for row in rows}
    before = [group[row] for row in taken]
    is_taken = np.isin(np.arange(len(planned)), taken)
    free = [rows[~is_taken[rows]].tolist() for rows in members]
    copies = np.array([len(rows) for rows in free])
    added = choose(start.given(before), cost[first], copies, budget)
    if rounds > 1:
        added = _first_round(added, cost[first], budget / rounds)
    chosen = [*before, *added]
    outlooks = itertools.accumulate(([row] for row in chosen), Outlook.given, initial=start)
    widths = [found.log_width for found in outlooks]
    fall = widths[0] - widths[-1]
    is_known = len(start.seen) > N_ADDITIVE
    rows = (*taken, *(free[group].pop(0) for group in added))
    return Proposal(
        rows=rows,
        share=-np.diff(widths) / fall if rows else np.zeros(0),
        cost=float(cost[list(rows)].sum()),
        ratio=float(np.exp(-fall / start.target.shape[1])) if is_known else np.nan,
        findings=(*posterior.findings, *_lost(posterior, start, target)),
    )


def require_affordable(
    planned: Runs, cost: Real[Array, " n"], budget: float, rounds: int = 1
) -> None:
    """Refuses what `propose` cannot do.

    Raises:
      ValueError: for a cost or a budget that is not positive and finite, or where the budget does
        not pay for any run.
    """
    if cost.shape != (len(planned),) or not np.all(np.isfinite(cost) & (cost > 0)):
        raise ValueError("every planned run needs a positive, finite cost")
    if not (np.isfinite(budget) and len(cost) and budget >= cost.min()):
        least = f"the cheapest costs {power(cost.min())}" if len(cost) else "there is none"
        raise ValueError(f"a budget of {power(budget)} FLOPs pays for no planned run: {least}")
    if rounds < 1:
        raise ValueError(f"rounds={rounds}: at least one")


def worth(posterior: LawPosterior, target: Target, planned: Runs) -> Float[Array, " n"]:
    """What each planned run alone would narrow, over what all of them together would, [n].

    Raises:
      ValueError: if there are no planned runs.
    """
    if not len(planned):
        raise ValueError("no planned runs, so nothing to say what they are worth")
    start = outlook(posterior, target, planned)
    together = start.log_width - start.given(np.arange(len(planned))).log_width
    return 0.5 * start.gains() / together


def _lost(posterior: LawPosterior, start: Outlook, target: Target) -> list[str]:
    n_lost = len(posterior.phi) - len(start.target)
    if not n_lost:
        return []
    return [
        f"{n_lost} of {len(posterior.phi)} draws of the law have no optimum at "
        f"{power(target.flops)} FLOPs, or one at a corner of the sizes, and are left out "
        "of the choice."
    ]


def _alike(both: Runs, n_done: int, cost: Array) -> list[Array]:
    """Rows of the planned runs that tell the same at the same cost: further seeds."""
    config = configurations(both)
    trunk = np.unique(both.cluster_id, return_inverse=True)[1].reshape(-1)
    is_branch = np.array([len(set(config[trunk == label])) > 1 for label in trunk])
    keys = np.stack([config, np.where(is_branch, trunk, -1)], axis=1)[n_done:]
    keys = np.column_stack([keys, np.unique(cost, return_inverse=True)[1].reshape(-1)])
    label = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    return [np.flatnonzero(label == value) for value in range(label.max() + 1)]


def _first_round(chosen: list[int], cost: Array, budget: float) -> list[int]:
    """The cheapest first: they tell where the dear ones belong."""
    order = sorted(chosen, key=lambda row: cost[row])
    n_paid = int(np.searchsorted(np.cumsum(cost[order]), budget, side="right"))
    return order[: max(n_paid, 1)]


def choose(
    start: Outlook, cost: Real[Array, " n"], copies: Int[Array, " n"], budget: float
) -> list[int]:
    """Rows to run within a budget, a row up to `copies` times.

    Greedy by gain per cost, by gain (each alone can be arbitrarily poor on a knapsack: Leskovec
    et al. 2007) and by what is least foreseen per cost, as two runs may tell of the target what
    neither tells alone; whichever ends best. Of few runs each and each pair is then taken out
    and what it costs is spent anew, as long as that gains.
    """
    dear = cost + _PER_RUN * budget
    each = np.ones(len(cost))
    ways = ((Outlook.gains, dear), (Outlook.gains, each), (Outlook.surprises, dear))
    best: list[int] = []
    width = start.log_width

    def refilled(kept: list[int], banned: int | None) -> None:
        nonlocal best, width
        free = copies - np.bincount(kept, minlength=len(cost))
        if banned is not None:
            free[banned] = 0
        state, left = start.given(kept), budget - cost[kept].sum()
        for gains, price in ways:
            rows, found = _greedy(state, cost, free, left, gains, price)
            if found.log_width < width - _NO_GAIN:
                best, width = [*kept, *rows], found.log_width

    refilled([], None)
    for _ in range(_EXCHANGES):
        before, tried = width, best
        places = range(len(tried)) if len(tried) <= _FEW else range(0)
        for out in (*((i,) for i in places), *itertools.combinations(places, 2)):
            refilled([row for i, row in enumerate(tried) if i not in out], tried[out[0]])
        if width > before - _NO_GAIN:
            break
    return best


def _greedy(
    state: Outlook, cost: Array, copies: Array, left: float, gains: Any, price: Array
) -> tuple[list[int], Outlook]:
    chosen: list[int] = []
    free = copies.copy()
    while True:
        worth = np.where((free > 0) & (cost <= left), gains(state) / price, 0.0)
        row = int(np.argmax(worth))
        if not worth[row] > 0:
            return chosen, state
        chosen.append(row)
        left -= cost[row]
        free[row] -= 1
        state = state.given([row])
