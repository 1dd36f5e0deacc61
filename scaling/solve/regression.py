# SPDX-License-Identifier: Apache-2.0
"""The certified minimum of a law, its data and an objective, from many starts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from scaling.fit import Certificate, FitStatus
from scaling.laws.law import Law
from scaling.laws.starts import starts
from scaling.solve.certificate import certify
from scaling.solve.descend import descend_all, descend_on, distinct_minima
from scaling.solve.newton import best_row
from scaling.solve.problem import NO_CONSTRAINTS, Constraints, Problem, part_of
from scaling.tables.arrays import Array

# A normal standard deviation over the median of absolute values.
_NORMAL = 1.4826


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The minimum for the data as they are, and where replicates start from.

    Fields:
      z: free coordinates [F] of the minimum. parameters: all of the law's, [P], paper's units.
      residuals: observed minus predicted, in the objective's space.
      minima: distinct certified minima [M, F], best first; starts: one more that is far away.
      scale: fitted scale of a likelihood, NaN where the objective has none.
    """

    problem: Problem
    z: Float[Array, " F"]
    parameters: Float[Array, " P"]
    residuals: Float[Array, " n"]
    status: FitStatus
    certificate: Certificate
    minima: Float[Array, "M F"]
    starts: Float[Array, "_ F"]
    scale: float

    @property
    def law(self) -> Law:
        return self.problem.law

    @property
    def spread(self) -> float:
        """Standard deviation of normal residuals, from their median size: far ones do not count."""
        return _NORMAL * float(np.median(np.abs(self.residuals))) + 1e-12

    def parameters_of(self, z: Float[Array, "*rows F"]) -> Float[Array, "*rows P"]:
        """Parameters of the law [..., P] from free coordinates [..., F]."""
        return self.problem.parameters_of(z)


def slopes(found: Estimate) -> Float[Array, "n F"]:
    """Slopes [n, F] of the predictions, in the objective's space, by the free coordinates."""
    return slopes_at(found, found.problem.x)


def slopes_at(found: Estimate, x: Mapping[str, Array]) -> Float[Array, "n F"]:
    """The same at other columns of the law, [n, F]."""
    problem, step = found.problem, 1e-6
    shifts = step * np.concatenate([np.eye(len(found.z)), -np.eye(len(found.z))])
    values = problem.law.predict(found.parameters_of(found.z + shifts), x)
    values = np.log(values) if problem.objective.is_log else values
    above, below = np.split(values, 2)
    return ((above - below) / (2 * step)).T


def estimate(problem: Problem, constraints: Constraints = NO_CONSTRAINTS) -> Estimate:
    """The lowest certified minimum that many starts reach.

    Starts are solved to the objective itself, so that minima which only a robust objective has
    are met; kinked ones (LAD, quantile) are approached through Huber's with shrinking half-width.
    A large table is explored by part of its points; the minima of that go on with all.
    """
    law, part = problem.law, part_of(problem)
    y = np.exp(part.y) if problem.objective.is_log else part.y
    begin = starts(law, part.x, y, fixed=constraints.fixed, tied=constraints.tied)
    scatter = _scatter(part, begin)
    z = _free_coordinates(problem, law.to_coordinates(begin), scatter)
    delta = problem.objective.delta(scatter)
    problem, part = replace(problem, delta=delta), replace(part, delta=delta)
    solutions = descend_all(part, z, scatter)
    if problem.n_points > part.n_points:
        solutions = descend_on(problem, solutions, scatter)
    row = best_row(solutions)
    best = solutions.theta[row]
    parameters = problem.parameters_of(best)
    status, certificate = certify(problem, solutions, row)
    log_scale = float((best @ problem.expand.T + problem.offset)[-1])
    return Estimate(
        problem=problem,
        z=best,
        parameters=parameters,
        residuals=problem.residuals(parameters),
        status=status,
        certificate=certificate,
        minima=distinct_minima(solutions),
        starts=z[:1],
        scale=float(np.exp(log_scale)) if problem.objective.has_scale else np.nan,
    )


def _scatter(problem: Problem, begin: Array) -> float:
    """Robust scatter about the best start: where a fitted scale and smoothed kinks begin."""
    if not (problem.objective.is_kinked or problem.objective.has_scale):
        return 1.0
    sizes = [np.median(np.abs(problem.residuals(p))) for p in begin[:8]]
    finite = [s for s in sizes if np.isfinite(s)]
    return _NORMAL * max(min(finite, default=1.0), 1e-12)


def _free_coordinates(problem: Problem, theta: Array, scatter: float) -> Array:
    """Starts [S, F] from coordinates of all parameters [S, P]."""
    if problem.objective.has_scale:
        theta = np.column_stack([theta, np.full(len(theta), np.log(scatter))])
    owners = np.argmax(problem.expand, axis=0)
    return theta[:, owners]
