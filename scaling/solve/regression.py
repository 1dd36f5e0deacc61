# SPDX-License-Identifier: Apache-2.0
"""A law, data and an objective -> the certified minimum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scaling.fit import Certificate, FitStatus
from scaling.laws.law import Law
from scaling.laws.objectives import HUBER, Objective
from scaling.laws.starts import N_FIRST, starts
from scaling.solve.newton import Problem, Solutions, best_row, solve, with_rows

Array = np.ndarray

_REPLICATE_PASS = 60
# Starts that need more steps than this go on only while too few of them agree, as do all others;
# laws with more non-linear parameters than these are known to have several minima.
_FIRST_PASS, _SECOND_PASS = 24, 300
_WIDER = (16.0, 8.0, 4.0, 2.0)
_ENOUGH_AGREE = 4
_FEW_BENT = 2
# Kinked objectives are reached through Huber's, whose half-width shrinks by this factor.
_SHRINK = 0.15
# A term whose largest contribution is below this share of the target is not there.
_VANISHED = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What is known of the parameters beforehand, in the paper's units.

    fixed: name -> value. tied: name -> the name whose value it shares. bounds: name -> (lower,
    upper), in place of the law's own box.
    """

    fixed: Mapping[str, float] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def check(self, law: Law) -> None:
        """Raises ValueError for a name the law has not, or a value that cannot be."""
        named = [*self.fixed, *self.tied, *self.tied.values(), *self.bounds]
        unknown = [name for name in named if name not in law.names]
        if unknown:
            raise ValueError(
                f"law {law.name} has no parameter {', '.join(unknown)}; it has "
                f"{', '.join(law.names)}"
            )
        loops = [name for name in self.tied.values() if name in self.tied]
        if loops or set(self.fixed) & {*self.tied, *self.bounds}:
            raise ValueError(
                "a parameter is fixed, tied to a free one, or bounded, and only one of them: "
                f"fixed {dict(self.fixed)}, tied {dict(self.tied)}, bounds {dict(self.bounds)}"
            )
        for parameter in law.parameters:
            low, high = self.bounds.get(parameter.name, (parameter.lower, parameter.upper))
            value = self.fixed.get(parameter.name, parameter.upper)
            if not low < high or (parameter.is_positive and (low < 0 or value <= 0)):
                kind = "positive " if parameter.is_positive else ""
                raise ValueError(
                    f"{parameter.name} of law {law.name} is a {kind}parameter: it cannot be fixed "
                    f"at {value:g} or bounded by {low:g} to {high:g}"
                )


NO_CONSTRAINTS = Constraints()


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
    z: Array
    parameters: Array
    residuals: Array
    status: FitStatus
    certificate: Certificate
    minima: Array
    starts: Array
    scale: float

    @property
    def law(self) -> Law:
        return self.problem.law

    def parameters_of(self, z: Array) -> Array:
        """Parameters of the law [..., P] from free coordinates [..., F]."""
        full = z @ self.problem.expand.T + self.problem.offset
        return self.law.to_parameters(full[..., : len(self.law.parameters)])


def slopes(found: Estimate) -> Array:
    """Slopes [n, F] of the predictions, in the objective's space, by the free coordinates."""
    problem, step = found.problem, 1e-6
    shifts = step * np.concatenate([np.eye(len(found.z)), -np.eye(len(found.z))])
    values = problem.law.predict(found.parameters_of(found.z + shifts), problem.x)
    values = np.log(values) if problem.objective.is_log else values
    above, below = np.split(values, 2)
    return ((above - below) / (2 * step)).T


def set_up(
    law: Law,
    x: Mapping[str, Array],
    y: Array,
    *,
    objective: Objective = HUBER,
    constraints: Constraints = NO_CONSTRAINTS,
    weights: Array | None = None,
) -> Problem:
    """The problem of a law and its data.

    Args:
      x: columns of the table, first axis n. y: the target in its own units, [n].

    Raises:
      ValueError: for columns that are missing, constraints that cannot be, or a target that has
        no logarithm where the objective asks for one.
    """
    constraints.check(law)
    if objective.is_log and not np.all(y > 0):
        raise ValueError(
            f"objective {objective.name} takes logarithms, and {law.target} has values down to "
            f"{np.min(y):g}; use raw-{objective.kind}"
        )
    expand, offset, leaders = _reduction(law, objective, constraints)
    boxes = [constraints.bounds.get(p.name, (p.lower, p.upper)) for p in law.parameters]
    lower = [float(p.coordinate(b[0])) for p, b in zip(law.parameters, boxes, strict=True)]
    upper = [float(p.coordinate(b[1])) for p, b in zip(law.parameters, boxes, strict=True)]
    if objective.has_scale:
        lower, upper = [*lower, -40.0], [*upper, 40.0]
    return Problem(
        law=law,
        objective=objective,
        x=law.read(x),
        y=np.log(y) if objective.is_log else np.asarray(y, float),
        weights=np.ones(len(y)) if weights is None else weights,
        expand=expand,
        offset=offset,
        lower=np.array(lower)[leaders],
        upper=np.array(upper)[leaders],
        delta=objective.delta(1.0),
    )


def _reduction(
    law: Law, objective: Objective, constraints: Constraints
) -> tuple[Array, Array, Array]:
    """Map from free coordinates to all of them, and the indices of the free ones."""
    n = len(law.parameters) + objective.has_scale
    leaders = [
        i
        for i, p in enumerate(law.parameters)
        if p.name not in constraints.fixed and p.name not in constraints.tied
    ]
    leaders += list(range(len(law.parameters), n))
    expand, offset = np.zeros((n, len(leaders))), np.zeros(n)
    expand[leaders, np.arange(len(leaders))] = 1.0
    for name, value in constraints.fixed.items():
        i = law.names.index(name)
        offset[i] = law.parameters[i].coordinate(value)
    for follower, leader in constraints.tied.items():
        expand[law.names.index(follower)] = expand[law.names.index(leader)]
    return expand, offset, np.array(leaders)


def estimate(problem: Problem, constraints: Constraints = NO_CONSTRAINTS) -> Estimate:
    """The lowest certified minimum that many starts reach.

    Starts are solved to the objective itself, so that minima which only a robust objective has
    are met; kinked ones (LAD, quantile) are approached through Huber's with shrinking half-width.
    """
    law, observed = problem.law, problem.y
    y = np.exp(observed) if problem.objective.is_log else observed
    begin = starts(law, problem.x, y, fixed=constraints.fixed, tied=constraints.tied)
    scatter = _scatter(law, problem, begin)
    z = _free_coordinates(problem, law.to_coordinates(begin), scatter)
    problem = replace(problem, delta=problem.objective.delta(scatter))
    solutions = _descend_all(problem, z, scatter)
    row = best_row(solutions)
    status, certificate = _certify(problem, solutions, row)
    full = solutions.theta[row] @ problem.expand.T + problem.offset
    parameters = law.to_parameters(full[: len(law.parameters)])
    status, certificate = _note_vanished(problem, parameters, status, certificate)
    return Estimate(
        problem=problem,
        z=solutions.theta[row],
        parameters=parameters,
        residuals=_residuals(law, problem, parameters),
        status=status,
        certificate=certificate,
        minima=_distinct_minima(solutions),
        starts=z[:1],
        scale=float(np.exp(full[-1])) if problem.objective.has_scale else np.nan,
    )


def _residuals(law: Law, problem: Problem, parameters: Array) -> Array:
    predicted = law.predict(parameters, problem.x)
    with np.errstate(invalid="ignore", divide="ignore"):
        return problem.y - (np.log(predicted) if problem.objective.is_log else predicted)


def _scatter(law: Law, problem: Problem, begin: Array) -> float:
    """Robust scatter about the best start: where a fitted scale and smoothed kinks begin."""
    if not (problem.objective.is_kinked or problem.objective.has_scale):
        return 1.0
    sizes = [np.median(np.abs(_residuals(law, problem, p))) for p in begin[:8]]
    finite = [s for s in sizes if np.isfinite(s)]
    return 1.4826 * max(min(finite, default=1.0), 1e-12)


def _free_coordinates(problem: Problem, theta: Array, scatter: float) -> Array:
    """Starts [S, F] from coordinates of all parameters [S, P]."""
    if problem.objective.has_scale:
        theta = np.column_stack([theta, np.full(len(theta), np.log(scatter))])
    owners = np.argmax(problem.expand, axis=0)
    return theta[:, owners]


def _stages(problem: Problem, scatter: float) -> list[float]:
    """Half-widths on the way to a kinked objective's; just its own for a smooth one."""
    final = problem.objective.delta(scatter)
    if not problem.objective.is_kinked:
        return [final]
    n = int(np.ceil(np.log(0.3 * scatter / final) / -np.log(_SHRINK)))
    return [0.3 * scatter * _SHRINK**k for k in range(n)] + [final]


def _descend_all(problem: Problem, z: Array, scatter: float) -> Solutions:
    """Starts to their minima; all of them where the first few do not agree on the best one."""
    first, *later = _stages(problem, scatter)
    problem = replace(problem, delta=first)
    found = solve(problem, z[:N_FIRST], max_iterations=_FIRST_PASS)
    n_bent = sum(not p.is_amplitude for p in problem.law.parameters)
    if n_bent > _FEW_BENT or _n_agree(found, best_row(found)) < _ENOUGH_AGREE:
        found = _joined(found, solve(problem, z[N_FIRST:], max_iterations=_FIRST_PASS))
        found = _insisted(problem, found)
    if not later:
        return found
    # Starts that have met go on as one.
    _, kept, back = np.unique(_labels(found), return_index=True, return_inverse=True)
    theta = found.theta[kept]
    for delta in later:
        found = solve(replace(problem, delta=delta), theta, max_iterations=100)
        theta = found.theta
    return _picked(found, back)


def _insisted(problem: Problem, solutions: Solutions) -> Solutions:
    """The solutions, those not yet at a minimum led there through wider Huber losses.

    Along a flat valley with many kinks Newton's steps are short: every residual within delta
    counts as a wall. A wider loss has fewer of them.
    """
    late = np.flatnonzero(~solutions.is_certified)
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
    return np.argmax(apart < 1e-4, axis=1)


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


def _agree(solutions: Solutions, row: int) -> Array:
    """Rows that ended where this one did."""
    best = solutions.objective[row]
    with np.errstate(invalid="ignore"):
        excess = (solutions.objective - best) / max(abs(best), 1e-300)
    # On noise-free data every objective is rounding error: compare where the rows ended instead.
    near = np.max(np.abs(solutions.theta - solutions.theta[row]), axis=1) < 1e-5
    return near | (excess < 1e-9)


def _n_agree(solutions: Solutions, row: int) -> int:
    return int(np.sum(_agree(solutions, row) & solutions.is_certified))


def _distinct_minima(solutions: Solutions, n_most: int = 3) -> Array:
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


def _certify(problem: Problem, solutions: Solutions, row: int) -> tuple[FitStatus, Certificate]:
    """Status and certificate of the best of several starts on one data set."""
    # Kinked objectives were solved times their half-width.
    unit = problem.delta if problem.objective.is_kinked else 1.0
    best = float(solutions.objective[row])
    hessian = solutions.hessian[row] / unit
    scale = 1.0 / np.sqrt(np.abs(np.diag(hessian)) + 1e-300)
    eigenvalues, vectors = np.linalg.eigh(hessian * scale[:, None] * scale[None, :])
    at_bound, touched = _bounds_touched(problem, solutions.theta[row])
    agree = _agree(solutions, row)
    others = solutions.is_certified & ~agree
    with np.errstate(invalid="ignore"):
        excess = (solutions.objective - best) / max(abs(best), 1e-300)
    certificate = Certificate(
        objective=_reported(problem, solutions, row),
        gradient_norm=float(np.linalg.norm(solutions.gradient[row])) / unit,
        newton_decrement=float(solutions.decrement[row]) / unit,
        hessian_eigenvalues=tuple(float(v) for v in np.linalg.eigvalsh(hessian)),
        condition=float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues[0] > 0 else None,
        n_starts=len(solutions.objective),
        n_starts_agree=int(agree.sum()),
        next_best_excess=float(excess[others].min()) if others.any() else None,
        bounds_touched=touched,
        at_bound=at_bound,
        flat_directions=_flat_directions(problem, eigenvalues, vectors * scale[:, None]),
    )
    is_minimum = bool(solutions.is_certified[row])
    return _status(touched, is_minimum, float(eigenvalues[0])), certificate


def _reported(problem: Problem, solutions: Solutions, row: int) -> float:
    """The objective itself, in place of the smooth one that the solver worked with."""
    if not problem.objective.is_kinked:
        return float(solutions.objective[row])
    full = solutions.theta[row] @ problem.expand.T + problem.offset
    parameters = problem.law.to_parameters(full[: len(problem.law.parameters)])
    rho = problem.objective.rho(_residuals(problem.law, problem, parameters))
    return float(np.sum(problem.weights * rho))


def _status(touched: tuple[str, ...], is_minimum: bool, smallest: float) -> FitStatus:
    if touched:
        return FitStatus.AT_BOUND
    if not is_minimum:
        return FitStatus.MAX_ITER if smallest > 0 else FitStatus.NOT_CONVEX
    return FitStatus.CONVERGED if smallest > 0 else FitStatus.NOT_CONVEX


def _free_names(problem: Problem) -> list[str]:
    names = [*problem.law.coordinate_names, "log scale"]
    return [names[int(np.argmax(column))] for column in problem.expand.T]


def _bounds_touched(problem: Problem, z: Array) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Parameters at a bound, and a sentence for each."""
    parameters, touched = [], []
    rows = zip(_free_names(problem), z, problem.lower, problem.upper, strict=True)
    for name, value, low, high in rows:
        if value <= low or value >= high:
            side = "lower" if value <= low else "upper"
            touched.append(f"{name} at its {side} bound")
            parameters.append(name.removeprefix("log "))
    return tuple(parameters), tuple(touched)


def _flat_directions(problem: Problem, eigenvalues: Array, vectors: Array) -> tuple[str, ...]:
    """Directions of the scaled Hessian whose curvature is below 1e-9 of the largest."""
    names = _free_names(problem)
    sentences = []
    for index in np.flatnonzero(eigenvalues < 1e-9 * eigenvalues.max()):
        vector = vectors[:, index] / np.max(np.abs(vectors[:, index]))
        leading = np.flatnonzero(np.abs(vector) > 0.3)
        sentences.append(" with ".join(f"{vector[i]:+.2f} {names[i]}" for i in leading))
    return tuple(sentences)


def _note_vanished(
    problem: Problem, parameters: Array, status: FitStatus, certificate: Certificate
) -> tuple[FitStatus, Certificate]:
    """Amplitudes that went to nothing count as bounds: their exponents mean nothing."""
    law = problem.law
    y = np.exp(problem.y) if problem.objective.is_log else problem.y
    gone = {}
    for i, parameter in enumerate(law.parameters):
        if not parameter.is_amplitude or not problem.expand[i].any():
            continue
        without = parameters.copy()
        without[i] = 0.0
        change = np.abs(law.predict(parameters, problem.x) - law.predict(without, problem.x))
        if np.max(change / np.maximum(np.abs(y), 1e-300)) < _VANISHED:
            name = parameter.name
            gone[name] = f"the term of {name} vanishes (its lower bound is zero)"
    if not gone:
        return status, certificate
    touched = (*certificate.bounds_touched, *gone.values())
    at_bound = tuple(dict.fromkeys((*certificate.at_bound, *gone)))
    return FitStatus.AT_BOUND, replace(certificate, bounds_touched=touched, at_bound=at_bound)


def descend(problem: Problem, begin: Array, spread: float) -> Solutions:
    """Minima near the starts [S, F]; kinked objectives through Huber's with shrinking half-width.

    spread: of the residuals, on whose scale kinks are smoothed.
    """
    if not problem.objective.is_kinked:
        return _insisted(problem, solve(problem, begin, max_iterations=_REPLICATE_PASS))
    solutions: Any = None
    for delta in _stages(problem, spread):
        solutions = solve(replace(problem, delta=delta), begin, max_iterations=100)
        begin = solutions.theta
    return solutions
