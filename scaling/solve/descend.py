# SPDX-License-Identifier: Apache-2.0
"""From many starts to the minima of one objective, kinked or smooth."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from scaling.laws.law import Law
from scaling.laws.starts import N_FIRST
from scaling.solve.newton import Solutions, best_row, solve
from scaling.solve.problem import Problem, with_rows
from scaling.tables.arrays import Array

_REPLICATE_PASS = 60


# Starts that need more steps than this go on only while too few of them agree, as do all others;
# laws with more non-linear parameters than these are known to have several minima.
_FIRST_PASS, _SECOND_PASS = 24, 300


_WIDER = (16.0, 8.0, 4.0, 2.0)


# Of the starts of one fit that are led so at first; the others lie higher after as many steps.
_MOST_INSISTED = 16


_ENOUGH_AGREE = 4


# Rows no coordinate of which differs by more have met.
_SAME_PLACE = 1e-4


_FEW_BENT = 2


# Kinked objectives are reached through Huber's, whose half-width, at first this part of the scatter
# of the residuals, shrinks by this factor.
_WIDEST, _SHRINK = 0.3, 0.15


# A half-width below this part of the scatter: nearly all residuals are outside, and Newton's steps
# as short as with kinks. Of (Mis)Fitting's table 12 of 1,000 replicates of the curved law missed
# their lowest minimum so, of the additive law none.
_NARROW = 0.1


# Steps under each of these half-widths.
_KINKED_PASS = 100


def _is_bent(law: Law) -> bool:
    """Whether it is known to have several minima."""
    return sum(not p.is_amplitude for p in law.parameters) > _FEW_BENT


def _half_widths(problem: Problem, scatter: float) -> list[float]:
    """Half-widths on the way to a kinked objective's; just its own for a smooth one."""
    final = problem.objective.delta(scatter)
    if not problem.objective.is_kinked:
        return [final]
    n = int(np.ceil(np.log(_WIDEST * scatter / final) / -np.log(_SHRINK)))
    return [_WIDEST * scatter * _SHRINK**k for k in range(n)] + [final]


def _on_the_way(problem: Problem, spread: float) -> list[float]:
    """Half-widths through which replicates are led: to a kinked objective's, which is the last, and
    a wider one than Huber's where that is nearly kinked and the law hardly bent."""
    if problem.objective.is_kinked:
        return _half_widths(problem, spread)
    is_narrow = problem.objective.kind == "huber" and np.max(problem.delta) < _NARROW * spread
    return [_WIDEST * spread] if is_narrow and not _is_bent(problem.law) else []


def descend_all(problem: Problem, z: Float[Array, "S F"], scatter: float) -> Solutions:
    """Starts to their minima; all of them where the first few do not agree on the best one."""
    first, *later = _half_widths(problem, scatter)
    problem = replace(problem, delta=first)
    found = solve(problem, z[:N_FIRST], max_iterations=_FIRST_PASS)
    if _is_bent(problem.law) or _n_agree(found, best_row(found)) < _ENOUGH_AGREE:
        found = _joined(found, solve(problem, z[N_FIRST:], max_iterations=_FIRST_PASS))
        found = _insisted(problem, found, most=_MOST_INSISTED)
        if not found.is_certified[best_row(found)]:
            found = _insisted(problem, found)
    if not later:
        return found
    # Starts that have met go on as one.
    _, kept, back = np.unique(_labels(found), return_index=True, return_inverse=True)
    theta = found.theta[kept]
    for delta in later:
        found = solve(replace(problem, delta=delta), theta, max_iterations=_KINKED_PASS)
        theta = found.theta
    return _picked(found, back)


def descend_on(problem: Problem, found: Solutions, scatter: float) -> Solutions:
    """Minima of a problem from those of a part of its points; starts that have met go on as one."""
    rows = np.flatnonzero(found.is_certified)
    ended = _picked(found, rows) if len(rows) else found
    _, kept, back = np.unique(_labels(ended), return_index=True, return_inverse=True)
    theta = ended.theta[kept]
    for delta in _half_widths(problem, scatter):
        whole = solve(replace(problem, delta=delta), theta, max_iterations=_KINKED_PASS)
        theta = whole.theta
    return _picked(_insisted(problem, whole) if not problem.objective.is_kinked else whole, back)


def _insisted(problem: Problem, solutions: Solutions, *, most: int | None = None) -> Solutions:
    """The solutions, those not yet at a minimum led there through wider Huber losses; at most so
    many of them, the lowest.

    Along a flat valley with many kinks Newton's steps are short: every residual within delta
    counts as a wall. A wider loss has fewer of them.
    """
    late = np.flatnonzero(~solutions.is_certified)
    late = np.sort(late[np.argsort(solutions.objective[late], kind="stable")[:most]])
    if not len(late):
        return solutions
    rows = with_rows(problem, late)
    theta = solutions.theta[late]
    if problem.objective.kind == "huber":
        for factor in _WIDER:
            wide = replace(rows, delta=factor * np.asarray(rows.delta))
            theta = solve(wide, theta, max_iterations=_FIRST_PASS).theta
    more = solve(rows, theta, max_iterations=_SECOND_PASS)
    # A wider loss may lead to another minimum: only what is lower, or certified at last, counts.
    is_better = more.is_certified | (more.objective < solutions.objective[late])
    return _replaced(solutions, late[is_better], _picked(more, np.flatnonzero(is_better)))


def _labels(solutions: Solutions) -> Array:
    """Of each row, the first row that ended at the same place."""
    apart = np.abs(solutions.theta[:, None] - solutions.theta[None]).max(axis=2)
    return np.argmax(apart < _SAME_PLACE, axis=1)


def _joined(one: Solutions, other: Solutions) -> Solutions:
    names = Solutions.__slots__
    return Solutions(**{n: np.concatenate([getattr(one, n), getattr(other, n)]) for n in names})


def _picked(solutions: Solutions, rows: Array) -> Solutions:
    return Solutions(**{name: getattr(solutions, name)[rows] for name in Solutions.__slots__})


def _replaced(solutions: Solutions, rows: Array, other: Solutions) -> Solutions:
    columns = {name: getattr(solutions, name).copy() for name in Solutions.__slots__}
    for name, values in columns.items():
        values[rows] = getattr(other, name)
    return Solutions(**columns)


def agreeing(solutions: Solutions, row: int) -> Bool[Array, " S"]:
    """Rows that ended where this one did."""
    best = solutions.objective[row]
    with np.errstate(invalid="ignore"):
        excess = (solutions.objective - best) / max(abs(best), 1e-300)
    # On noise-free data every objective is rounding error: compare where the rows ended instead.
    near = np.max(np.abs(solutions.theta - solutions.theta[row]), axis=1) < 1e-5
    return near | (excess < 1e-9)


def _n_agree(solutions: Solutions, row: int) -> int:
    return int(np.sum(agreeing(solutions, row) & solutions.is_certified))


def distinct_minima(solutions: Solutions, n_most: int = 3) -> Float[Array, "M F"]:
    """Coordinates [M, F] of the certified minima, best first, each once."""
    order = np.argsort(np.where(solutions.is_certified, solutions.objective, np.inf))
    found: list[Array] = []
    for row in order[: int(solutions.is_certified.sum())]:
        theta = solutions.theta[row]
        if all(np.max(np.abs(theta - other)) > 1e-3 for other in found):
            found.append(theta)
        if len(found) == n_most:
            break
    return np.array(found).reshape(-1, solutions.theta.shape[1])


class Descents:
    """Minima near several starts of each row, one set of starts after another.

    Kinked objectives are reached through Huber's with shrinking half-width, and Huber's own where
    it is nearly kinked and the law hardly bent through a wider one; rows that have met an earlier
    descent of theirs in the widest end where that one did.

    Args:
      spread: of the residuals, on whose scale kinks are smoothed.
    """

    def __init__(self, problem: Problem, spread: float):
        self.problem = problem
        self.half_widths = _on_the_way(problem, spread)
        self.before: list[tuple[Array, Solutions]] = []

    def descend(self, begin: Float[Array, "S F"]) -> Solutions:
        """Minima near the starts [S, F], one for each row of the problem."""
        if not self.half_widths:
            found = solve(self.problem, begin, max_iterations=_REPLICATE_PASS)
            return _insisted(self.problem, found)
        widest = replace(self.problem, delta=self.half_widths[0])
        wide = found = solve(widest, begin, max_iterations=_KINKED_PASS)
        is_new = np.ones(len(begin), bool)
        for before, ends in self.before:
            apart = np.max(np.abs(before - wide.theta), axis=1)
            met = np.flatnonzero(is_new & (apart < _SAME_PLACE))
            found = _replaced(found, met, _picked(ends, met))
            is_new[met] = False
        rows = np.flatnonzero(is_new)
        found = _replaced(found, rows, self._narrowed(rows, _picked(wide, rows)))
        self.before.append((wide.theta, found))
        return found

    def _narrowed(self, rows: Int[Array, " M"], found: Solutions) -> Solutions:
        """From the minima of the widest loss to those of the objective itself."""
        problem = with_rows(self.problem, rows)
        for delta in self.half_widths[1:]:
            narrower = replace(problem, delta=delta)
            found = solve(narrower, found.theta, max_iterations=_KINKED_PASS)
        if problem.objective.is_kinked:
            return found
        return _insisted(problem, solve(problem, found.theta, max_iterations=_KINKED_PASS))
