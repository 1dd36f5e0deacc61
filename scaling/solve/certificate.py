# SPDX-License-Identifier: Apache-2.0
"""Whether a solution is the minimum of its objective, and what is doubtful about it."""

from collections.abc import Mapping

import numpy as np

from scaling.fit import Certificate, FitStatus
from scaling.solve.descend import agreeing
from scaling.solve.newton import Solutions
from scaling.solve.problem import Problem
from scaling.tables.arrays import Array

# A term whose largest contribution is below this share of the target is not there.
_VANISHED = 1e-5


def certify(problem: Problem, solutions: Solutions, row: int) -> tuple[FitStatus, Certificate]:
    """Status and certificate of the best of several starts on one data set.

    Where a term that the law may lack is zero at the minimum, they are those of the law without it.
    """
    # Kinked objectives were solved times their half-width.
    unit = float(problem.delta) if problem.objective.is_kinked else 1.0
    best = float(solutions.objective[row])
    hessian = solutions.hessian[row] / unit
    gone = _vanished(problem, solutions.theta[row])
    at_bound, touched = _at_bound(problem, solutions.theta[row], gone)
    is_nested = bool(at_bound) and set(at_bound) <= set(gone) <= set(problem.law.may_vanish)
    names = _free_names(problem)
    if is_nested:
        is_left = np.array([name.removeprefix("log ") not in at_bound for name in names])
        hessian, names = hessian[np.ix_(is_left, is_left)], list(np.array(names)[is_left])
    curvature = np.abs(np.diag(hessian))
    # Nothing curves where all residuals lie beyond Huber's delta: what is left is rounding error.
    scale = 1.0 / np.sqrt(curvature + 1e-30 * np.max(curvature) + 1e-300)
    eigenvalues, vectors = np.linalg.eigh(hessian * scale[:, None] * scale[None, :])
    agree = agreeing(solutions, row)
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
        bounds_touched=() if is_nested else touched,
        at_bound=at_bound,
        flat_directions=_flat_directions(names, eigenvalues, vectors * scale[:, None]),
    )
    is_minimum = bool(solutions.is_certified[row])
    return _status(certificate, is_minimum, float(eigenvalues[0])), certificate


def _reported(problem: Problem, solutions: Solutions, row: int) -> float:
    """The objective itself, in place of the smooth one that the solver worked with."""
    if not problem.objective.is_kinked:
        return float(solutions.objective[row])
    parameters = problem.parameters_of(solutions.theta[row])
    rho = problem.objective.rho(problem.residuals(parameters))
    return float(np.sum(problem.weights * rho))


def _status(certificate: Certificate, is_minimum: bool, smallest: float) -> FitStatus:
    if certificate.bounds_touched:
        return FitStatus.AT_BOUND
    if not is_minimum:
        return FitStatus.MAX_ITER if smallest > 0 else FitStatus.NOT_CONVEX
    return FitStatus.CONVERGED if smallest > 0 else FitStatus.NOT_CONVEX


def _free_names(problem: Problem) -> list[str]:
    names = [*problem.law.coordinate_names, "log scale"]
    return [names[int(np.argmax(column))] for column in problem.expand.T]


def _at_bound(
    problem: Problem, z: Array, gone: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Parameters at a bound or gone, and a sentence for each."""
    parameters, touched = [], []
    for name, is_low, is_high in zip(_free_names(problem), *problem.at_bounds(z), strict=True):
        if is_low or is_high:
            side = "lower" if is_low else "upper"
            touched.append(f"{name} at its {side} bound")
            parameters.append(name.removeprefix("log "))
    return tuple(dict.fromkeys((*parameters, *gone))), (*touched, *gone.values())


def _flat_directions(names: list[str], eigenvalues: Array, vectors: Array) -> tuple[str, ...]:
    """Directions of the scaled Hessian whose curvature is below 1e-9 of the largest."""
    sentences = []
    for index in np.flatnonzero(eigenvalues < 1e-9 * eigenvalues.max()):
        vector = vectors[:, index] / np.max(np.abs(vectors[:, index]))
        leading = np.flatnonzero(np.abs(vector) > 0.3)
        sentences.append(" with ".join(f"{vector[i]:+.2f} {names[i]}" for i in leading))
    return tuple(sentences)


def _vanished(problem: Problem, z: Array) -> dict[str, str]:
    """Amplitudes that went to nothing count as bounds: their exponents mean nothing."""
    law, parameters = problem.law, problem.parameters_of(z)
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
    return gone
