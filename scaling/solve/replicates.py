# SPDX-License-Identifier: Apache-2.0
"""The certified minimum of every replicate of a fit's data, from several starts each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from scaling.fit import FitStatus
from scaling.solve.descend import Descents
from scaling.solve.newton import Solutions, solve
from scaling.solve.problem import Problem, with_rows
from scaling.solve.progress import say
from scaling.solve.regression import Estimate
from scaling.tables.arrays import Array

# Steps under the wider Huber loss, which only has to give a start.
_WIDE_PASS = 24
# Replicates that begin at every start. Where none of them gains by a start, fewer than 1 % of the
# others would (95 %), too few to move the end of an interval.
N_TRIED = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicates:
    """Best minimum of each replicate.

    z: free coordinates [R, F], NaN where none is certified. objective: [R]. is_certified: [R].
    n_starts: how many each began at, and n_agree: how many of them reached it, [R]; where several
    minima were met and only one start found the lowest, another might be lower still.
    """

    z: Float[Array, "R F"]
    objective: Float[Array, " R"]
    is_certified: Bool[Array, " R"]
    n_agree: Int[Array, " R"]
    n_starts: Int[Array, " R"]

    @property
    def n_single(self) -> int:
        """Replicates with several starts of which one alone reached the lowest minimum."""
        return int(np.sum((self.n_agree == 1) & (self.n_starts > 1)))


def replicate(
    found: Estimate,
    y: Float[Array, "R n"],
    weights: Real[Array, "R n"],
    *,
    offset: Float[Array, "R P"] | None = None,
    n_starts: int = 4,
    n_tried: int = N_TRIED,
) -> Replicates:
    """Solves replicates of the data from the estimate and other minima of it.

    Some replicates have several local minima, and the one nearest to the estimate is not always
    the lowest. The first `n_tried` replicates begin at every start, the others only at those starts
    that led one of these lower than the estimate does.

    Args:
      y, weights: [R, n], y in the objective's space.
      offset: of the coordinates, [R, P], where replicates hold a parameter at values of their own.
      n_starts: per replicate, at most.
    """
    problem = replace(found.problem, y=y, weights=weights)
    if offset is not None:
        problem = replace(problem, offset=offset)
    rows, kinds = np.arange(len(y)), range(n_starts - 1)
    tried, useful = _solved(found, with_rows(problem, rows[:n_tried]), kinds, len(y))
    if len(y) <= n_tried:
        return tried
    others, _ = _solved(found, with_rows(problem, rows[n_tried:]), useful, len(y))
    columns = Replicates.__slots__
    return Replicates(
        **{n: np.concatenate([getattr(tried, n), getattr(others, n)]) for n in columns}
    )


def drawn_about(found: Estimate, z: Float[Array, "R F"]) -> Replicates:
    """Replicates that were drawn [R, F], not solved for."""
    n = len(z)
    return Replicates(
        z=np.clip(z, found.problem.lower, found.problem.upper),
        objective=np.full(n, np.nan),
        is_certified=np.full(n, found.status is FitStatus.CONVERGED),
        n_agree=np.ones(n, int),
        n_starts=np.ones(n, int),
    )


def _solved(
    found: Estimate, problem: Problem, kinds: Sequence[int], n_all: int
) -> tuple[Replicates, list[int]]:
    """Minima of the problem's rows from the estimate and further starts of these kinds, and which
    of the kinds led some row lower."""
    n_rows = len(problem.y)
    descents = Descents(problem, found.spread)
    say(f"{n_all} replicates, {n_rows} of them from the estimate")
    first = descents.descend(np.tile(found.z, (n_rows, 1)))
    best = Replicates(
        z=np.where(first.is_certified[:, None], first.theta, np.nan),
        objective=np.where(first.is_certified, first.objective, np.inf),
        is_certified=first.is_certified,
        n_agree=first.is_certified.astype(int),
        n_starts=np.full(n_rows, 1 + len(kinds)),
    )
    useful = []
    starts = _further_starts(found, problem, first) if n_rows else []
    for kind in kinds[: len(starts)]:
        say(f"{n_all} replicates, {n_rows} of them from another start")
        better = _lower(best, descents.descend(starts[kind]()))
        if np.any(better.objective < best.objective):
            useful.append(kind)
        best = better
    return best, useful


def _lower(best: Replicates, solved: Solutions) -> Replicates:
    """The better of what was known and what another start reached, row by row."""
    value = np.where(solved.is_certified, solved.objective, np.inf)
    with np.errstate(invalid="ignore"):
        tolerance = 1e-9 * np.abs(value) + 1e-22
        is_better = value < best.objective - tolerance
        is_same = np.isfinite(value) & (np.abs(value - best.objective) <= tolerance)
    return Replicates(
        z=np.where(is_better[:, None], solved.theta, best.z),
        objective=np.where(is_better, value, best.objective),
        is_certified=best.is_certified | solved.is_certified,
        n_agree=np.where(is_better, 1, best.n_agree + is_same),
        n_starts=best.n_starts,
    )


def _further_starts(
    found: Estimate, problem: Problem, first: Solutions
) -> list[Callable[[], Array]]:
    """Starts [R, F] of every replicate after the first, most telling ones first.

    Other minima of the data as they are; where the replicate ends under a wider Huber loss, which
    has fewer minima; the two replicates that lie furthest apart, for minima far from the estimate.
    """
    shape = first.theta.shape
    others = [m for m in found.minima if np.max(np.abs(m - found.z)) > 1e-6]
    starts: list[Callable[[], Array]] = [partial(np.broadcast_to, m, shape) for m in others]
    if found.problem.objective.kind == "huber":
        wide = replace(problem, delta=4.0 * found.problem.delta)
        starts.append(lambda: solve(wide, first.theta, max_iterations=_WIDE_PASS).theta)
    starts += [partial(np.broadcast_to, z, shape) for z in _furthest(first)]
    return [*starts, partial(np.broadcast_to, found.starts[0], shape)]


def _furthest(solutions: Solutions) -> list[Array]:
    """The replicates at both ends (0.5 %) of the direction in which they differ most."""
    z = solutions.theta[solutions.is_certified]
    if len(z) < 3:
        return []
    centred = z - np.median(z, axis=0)
    along = np.linalg.svd(centred, full_matrices=False)[2][0]
    order = np.argsort(centred @ along)
    ends = (0.005 * (len(z) - 1), 0.995 * (len(z) - 1))
    return [z[order[round(end)]] for end in ends]
