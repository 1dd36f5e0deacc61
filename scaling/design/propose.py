# SPDX-License-Identifier: Apache-2.0
"""Which runs to add: those that most narrow the interval of a target per FLOP spent.

For every draw of a `belief.Belief` the law is linear in its parameters to first order, so that
parameters, target and losses still to come are jointly normal, and what a run would tell follows
before it is trained: Bayesian c-optimal design for a scalar target, D-optimal for all parameters
(Chaloner and Verdinelli 1995). The worth of runs is the expected fall of the log width of the
target's interval, averaged over the draws: a mean of variances would be decided by the few draws
that nothing resolves.

Three things keep the design from serving a wrong additive law. gamma is uncertain, so that runs
which would show a curved truth are worth something (see `belief`). Repeats of one configuration
share their lack of fit. And the width counts, not the variance alone: Student's t widens an
interval while few configurations tell the scatter, which is what a lack of fit is seen by. What a
design of cheap runs by the additive form alone does under a curved truth is in
results/benchmarks/notes/design.md: an interval as narrow as the grid's, and beside the truth.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import t as student

from scaling.design.posterior import N_ADDITIVE, Belief, effects
from scaling.design.target import Target
from scaling.laws.size_ladder import Ladder
from scaling.tables.runs import COLUMNS, Runs
from scaling.uncertainty.resampling import configurations

Array = np.ndarray

# Of the whole budget, charged to each run in the choice only: hundreds of runs that cost nothing
# and tell nothing would fill a proposal otherwise.
_PER_RUN = 0.02
# Of the largest variance of the target in any draw: below it a draw says that nothing moves it.
_STILL = 1e-6
# Exchanges are for proposals of so few runs: on larger ones they narrow by a hundredth, at ten
# times the time. Their rounds, and the least gain in log width that counts.
_FEW, _EXCHANGES, _NO_GAIN = 12, 3, 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Draws of target and losses to come, jointly normal: what runs would tell.

    Fields:
      target: covariance of the target, [R, T, T]. cross: with the planned losses, [R, T, n].
      shared: covariance of the planned losses but for each run's own noise, before any of them is
        known, [R, n, n]; told: what those that are known by now take from it, as factors [R, k, n]
        (a pivoted Cholesky decomposition: n numbers a step instead of n^2).
      variance: of the planned losses now, [R, n]. own: each run's own noise, [R, n]; noise: with
        what it shares with its trunk.
      config: label of each planned (N, D), [n]; seen: labels of the finished ones.
    """

    target: Array
    cross: Array
    shared: Array
    told: Array
    variance: Array
    own: Array
    noise: Array
    config: Array
    seen: frozenset[int]

    @classmethod
    def of(
        cls,
        *,
        target: Array,
        cross: Array,
        shared: Array,
        own: Array,
        noise: Array,
        config: Array,
        seen: Any,
    ) -> Outlook:
        """Before any planned run is known."""
        return cls(
            target=target,
            cross=cross,
            shared=shared,
            told=np.zeros((len(own), 0, own.shape[1])),
            variance=np.einsum("rnn->rn", shared) + own,
            own=own,
            noise=noise,
            config=config,
            seen=frozenset(seen),
        )

    def gains(self) -> Array:
        """Expected fall of the log squared width of the target's interval by each run, [n]."""
        solved = np.linalg.solve(self.target, self.cross)
        told = np.sum(solved * self.cross, axis=1) / self.variance
        fall = -np.mean(np.log1p(-np.minimum(told, 1 - 1e-12)), axis=0)
        is_new = np.array([c not in self.seen for c in self.config])
        before, after = (log_spread(len(self.seen) + k) for k in (0, 1))
        return fall + 2 * self.target.shape[1] * (before - after) * is_new

    def surprises(self) -> Array:
        """Mean over draws of the information of each run about the law as a whole, [n]."""
        return np.mean(np.log(self.variance / self.noise), axis=0)

    def given(self, chosen: Sequence[int] | Array) -> Outlook:
        """The outlook when those runs are finished, a row as often as it is named."""
        if not len(chosen):
            return self
        rows = np.asarray(chosen)
        left = self.shared[:, rows] - np.swapaxes(self.told[:, :, rows], 1, 2) @ self.told
        noise = self.own[:, rows, None] * np.eye(len(rows))
        root = np.linalg.cholesky(left[:, :, rows] + noise)
        of_losses = np.linalg.solve(root, left)
        of_target = np.linalg.solve(root, np.swapaxes(self.cross[:, :, rows], 1, 2))
        to_target = np.swapaxes(of_target, 1, 2)
        return replace(
            self,
            target=self.target - to_target @ of_target,
            cross=self.cross - to_target @ of_losses,
            told=np.concatenate([self.told, of_losses], axis=1),
            variance=self.variance - np.sum(of_losses**2, axis=1),
            seen=self.seen | set(self.config[rows].tolist()),
        )

    @property
    def log_width(self) -> float:
        """Mean over draws of the log determinant of the target's covariance, t included, halved."""
        size = self.target.shape[1]
        return 0.5 * float(np.mean(np.linalg.slogdet(self.target)[1])) + size * log_spread(
            len(self.seen)
        )


def log_spread(n_configurations: int) -> float:
    """Log of Student's t at 95 % with the degrees of freedom that an additive fit leaves.

    Below one degree of freedom each configuration counts as the step from one to two does.
    """
    dof = n_configurations - N_ADDITIVE
    steps = max(1 - dof, 0)
    first, second = np.log(student.ppf(0.975, [1, 2]))
    return float(np.log(student.ppf(0.975, max(dof, 1))) + steps * (first - second))


def outlook(belief: Belief, target: Target, planned: Runs) -> Outlook:
    """What is expected of planned runs, given the finished ones.

    Args:
      planned: losses are not read (they may be NaN).
    """
    done, prior = belief.runs, belief.prior
    both = joined(done, planned)
    slopes = target.slopes(prior, belief.phi, Ladder.from_runs(both))
    # Where the optimum sits on a corner of the ladder no parameter moves it: nothing is learned.
    size = np.sum((slopes * prior.sd) ** 2, axis=2)
    is_finite = np.all(np.isfinite(slopes), axis=(1, 2))
    largest = np.max(size[is_finite], axis=0, initial=0.0)
    good = is_finite & np.all(size > _STILL * largest, axis=1)
    if not np.any(good):
        raise ValueError(
            f"the {target.name} at {target.flops:.3g} FLOPs does not depend on the law in any "
            "draw: choose another target, or a budget whose optimum lies among the study's sizes"
        )
    phi, n = belief.phi[good], len(done)
    log_loss = prior.log_loss(phi, both)
    scale = belief.scatter.scale(log_loss)
    scale[:, :n] /= np.sqrt(belief.weights)
    together, own = effects(both, belief.scatter)
    jacobian = np.concatenate([slopes[good], prior.slopes(phi, both)], axis=1) * prior.sd
    covariance = jacobian @ np.swapaxes(jacobian, 1, 2)
    n_target = slopes.shape[1]
    losses = slice(n_target, None)
    covariance[:, losses, losses] += together * scale[:, :, None] * scale[:, None]
    own, noise = own * scale**2, belief.scatter.own * scale**2
    first, rest = n_target + np.arange(n), np.r_[:n_target, n_target + n : n_target + len(both)]
    known = covariance[:, first][:, :, first] + own[:, :n, None] * np.eye(n)
    with_known = covariance[:, first][:, :, rest]
    told = np.swapaxes(with_known, 1, 2) @ np.linalg.solve(known, with_known)
    left = covariance[:, rest][:, :, rest] - told
    config = configurations(both)
    return Outlook.of(
        target=left[:, :n_target, :n_target],
        cross=left[:, :n_target, n_target:],
        shared=left[:, n_target:, n_target:],
        own=own[:, n:],
        noise=noise[:, n:],
        config=config[n:],
        seen=config[:n].tolist(),
    )


def joined(done: Runs, planned: Runs) -> Runs:
    """The rows of both, in the planned runs' conventions."""
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(done, name), getattr(planned, name)]) for name in COLUMNS
    }
    return Runs(
        **columns,
        params_convention=planned.params_convention,
        flops_convention=planned.flops_convention,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Runs to add.

    Fields:
      rows: of the planned runs, in the order of their choice. share: of the expected narrowing,
        [rows]. cost: of all. ratio: expected width of the interval after them over that before
        (of all parameters: the geometric mean of their widths); NaN where the finished runs are
        too few for an interval.
    """

    rows: tuple[int, ...]
    share: Array
    cost: float
    ratio: float
    findings: tuple[str, ...]


def propose(
    belief: Belief,
    target: Target,
    planned: Runs,
    cost: Array,
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
    members = _alike(joined(belief.runs, planned), len(belief.runs), cost)
    first = np.array([rows[0] for rows in members])
    start = outlook(belief, target, planned.select(first))
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
        findings=(*belief.findings, *_lost(belief, start, target)),
    )


def require_affordable(planned: Runs, cost: Array, budget: float, rounds: int = 1) -> None:
    """Refuses what `propose` cannot do.

    Raises:
      ValueError: for a cost or a budget that is not positive and finite, or where the budget does
        not pay for any run.
    """
    if cost.shape != (len(planned),) or not np.all(np.isfinite(cost) & (cost > 0)):
        raise ValueError("every planned run needs a positive, finite cost")
    if not (np.isfinite(budget) and len(cost) and budget >= cost.min()):
        least = f"the cheapest costs {cost.min():.3g}" if len(cost) else "there is none"
        raise ValueError(f"a budget of {budget:.3g} FLOPs pays for no planned run: {least}")
    if rounds < 1:
        raise ValueError(f"rounds={rounds}: at least one")


def worth(belief: Belief, target: Target, planned: Runs) -> Array:
    """What each planned run alone would narrow, over what all of them together would, [n].

    Raises:
      ValueError: if there are no planned runs.
    """
    if not len(planned):
        raise ValueError("no planned runs, so nothing to say what they are worth")
    start = outlook(belief, target, planned)
    together = start.log_width - start.given(np.arange(len(planned))).log_width
    return 0.5 * start.gains() / together


def _lost(belief: Belief, start: Outlook, target: Target) -> list[str]:
    n_lost = len(belief.phi) - len(start.target)
    if not n_lost:
        return []
    return [
        f"{n_lost} of {len(belief.phi)} draws of the law have no optimum at {target.flops:.3g} "
        "FLOPs, or one at a corner of the sizes, and are left out of the choice."
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


def choose(start: Outlook, cost: Array, copies: Array, budget: float) -> list[int]:
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
