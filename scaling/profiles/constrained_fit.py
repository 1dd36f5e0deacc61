# SPDX-License-Identifier: Apache-2.0
"""The lowest objective of a fit with one quantity fixed: minima over everything else."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Real

from scaling.profiles.fixed_quantity import FixedQuantity
from scaling.solve.descend import Descents
from scaling.solve.problem import Problem
from scaling.solve.replicates import replicate
from scaling.tables.arrays import Array

# Rounds in which every value also starts from its neighbours' minima.
_SWEEPS = 3
# Largest share of L* that a start gives to E.
_LARGEST_E = 0.95


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConstrainedMinima:
    """Lowest minimum at each fixed value, [S]; z: the coordinates left free, [S, F - 1]."""

    objective: Float[Array, " S"]
    is_certified: Bool[Array, " S"]
    z: Float[Array, "S F"]


def constrained_minima(
    fixed: FixedQuantity, at: Float[Array, " S"], starts: Sequence[Array] = ()
) -> ConstrainedMinima:
    """The lowest objective met with the coordinate fixed at each value.

    Every value starts on the linear path through the estimate, at the estimate's and its other
    minima's coordinates, and at `starts` [S, F - 1]; then where its neighbours ended.
    """
    problem = fixed_at(fixed, at)
    rest = np.delete(fixed.found.minima, fixed.index, axis=1)
    here = np.delete(fixed.found.z, fixed.index)
    begin = [here + (at - fixed.at)[:, None] * fixed.path, *starts]
    begin += [np.broadcast_to(z, (len(at), len(here))) for z in (here, *rest[:2])]
    best = None
    for z in begin:
        best = _lower(best, _solved(fixed, problem, z))
    assert best is not None
    for _ in range(_SWEEPS if len(at) > 2 else 0):
        before = best.objective.copy()
        for shift in (1, -1):
            best = _lower(best, _solved(fixed, problem, np.roll(best.z, shift, axis=0)))
        if np.allclose(before, best.objective, rtol=1e-10, atol=0.0):
            break
    return best


def excess_of_replicates(
    fixed: FixedQuantity, y: Float[Array, "R n"], weights: Real[Array, "R n"]
) -> Float[Array, " R"]:
    """What holding the quantity at its estimate costs each replicate, [R]; NaN where uncertified.

    Under a bootstrap the estimate is the truth of its replicates, so that the quantiles of this
    excess are those of the profile at the truth.
    """
    problem = fixed_at(fixed, np.array([fixed.at]))
    rest = replace(
        fixed.found,
        problem=replace(problem, offset=problem.offset[0]),
        z=np.delete(fixed.found.z, fixed.index),
        minima=np.delete(fixed.found.minima, fixed.index, axis=1),
        starts=np.delete(fixed.found.starts, fixed.index, axis=1),
    )
    bound, free = replicate(rest, y, weights, n_starts=3), replicate(fixed.original, y, weights)
    # A constrained minimum below the free one is itself a free point: the excess is then zero.
    excess = np.maximum(bound.objective - free.objective, 0.0) / _unit(fixed)
    return np.where(bound.is_certified & free.is_certified, excess, np.nan)


def fixed_at(fixed: FixedQuantity, at: Float[Array, " S"]) -> Problem:
    """The problem with the coordinate fixed, row s at at[s]."""
    problem, k = fixed.found.problem, fixed.index
    return replace(
        problem,
        offset=problem.offset + at[:, None] * problem.expand[:, k],
        expand=np.delete(problem.expand, k, axis=1),
        lower=np.delete(problem.lower, k),
        upper=np.delete(problem.upper, k),
    )


def _solved(fixed: FixedQuantity, problem: Problem, begin: Array) -> ConstrainedMinima:
    begin = _feasible(fixed, problem, np.clip(begin, problem.lower, problem.upper))
    solutions = Descents(problem, fixed.original.spread).descend(begin)
    finite = np.isfinite(solutions.objective)
    return ConstrainedMinima(
        objective=np.where(finite, solutions.objective, np.inf) / _unit(fixed),
        is_certified=solutions.is_certified,
        z=solutions.theta,
    )


def _lower(one: ConstrainedMinima | None, other: ConstrainedMinima) -> ConstrainedMinima:
    if one is None:
        return other
    better = other.objective < one.objective
    return ConstrainedMinima(
        objective=np.where(better, other.objective, one.objective),
        is_certified=np.where(better, other.is_certified, one.is_certified),
        z=np.where(better[:, None], other.z, one.z),
    )


def _feasible(fixed: FixedQuantity, problem: Problem, z: Array) -> Array:
    """Starts whose E lies below the L* that they hold."""
    names = fixed.found.law.names
    if "loss_opt" not in names:
        return z
    e, opt = names.index("E"), names.index("loss_opt")
    if not problem.expand[e].any():
        return z
    full = z @ problem.expand.T + problem.offset
    column = int(np.argmax(problem.expand[e]))
    limit = full[:, opt] + np.log(_LARGEST_E)
    moved = z.copy()
    moved[:, column] = np.minimum(full[:, e], limit)
    return np.clip(moved, problem.lower, problem.upper)


def _unit(fixed: FixedQuantity) -> float:
    """Kinked objectives are solved times their half-width."""
    objective = fixed.original.problem.objective
    return objective.delta(fixed.original.spread) if objective.is_kinked else 1.0
