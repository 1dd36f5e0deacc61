# SPDX-License-Identifier: Apache-2.0
"""The batched damped Newton solver that every parametric fit uses, and its certificate.

All starts and all bootstrap replicates of a fit are rows of one batch, solved by one compiled
call in float64 on the CPU. Derivatives are exact (JAX). Asking JAX for the CPU still initialises
every platform: set JAX_PLATFORMS=cpu before JAX is imported in a process that only fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from scaling.fit import Certificate, FitStatus
from scaling.laws import Law

Array = np.ndarray

# Rows per compiled call, and the multiple to which points are padded (with weight zero):
# few shapes, so few compilations.
CHUNK = 64
PAD = 32
MAX_ITERATIONS = 1000
# Rows that need more than this go on together, so that a chunk does not wait for one of them.
FIRST_PASS = 60
# Newton decrement (the predicted gain of one more step) relative to the objective, below which
# a point is at rounding distance from its minimum; and what still counts as converged.
STOP_DECREMENT = 1e-15
CERTIFIED_DECREMENT = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Data of a batch: centred log N and log D [n]; log L and weights [n] or one row per start."""

    law: Law
    log_n: Array
    log_d: Array
    log_l: Array
    weights: Array
    delta: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Solutions:
    """Where each row of a batch ended: S rows of P coordinates."""

    theta: Array
    objective: Array
    gradient: Array
    hessian: Array
    decrement: Array
    n_iterations: Array

    def updated(self, rows: Array, other: Solutions) -> Solutions:
        """These solutions with some rows replaced; iterations add up."""
        columns = {name: getattr(self, name).copy() for name in self.__slots__}
        before = columns["n_iterations"][rows]
        for name, values in columns.items():
            values[rows] = getattr(other, name)
        columns["n_iterations"][rows] += before
        return Solutions(**columns)

    @property
    def is_certified(self) -> Array:
        """Rows at a minimum to rounding (bounds are judged apart)."""
        small = self.decrement <= CERTIFIED_DECREMENT * self.objective + 1e-22
        return small & np.isfinite(self.objective)


def huber(xp: Any, residual: Any, delta: Any) -> Any:
    """Huber's loss: r^2/2 inside +-delta, delta (|r| - delta/2) outside (Huber 1964)."""
    size = xp.abs(residual)
    inside = xp.minimum(size, delta)
    return inside * (size - 0.5 * inside)


def _row_objective(law: Law, theta: Any, log_n: Any, log_d: Any, log_l: Any, w: Any, delta: Any):
    """Sum of w Huber(log L - log L_hat): Hoffmann et al. 2022, eq. 3, where w = 1."""
    import jax.numpy as jnp

    residual = log_l - law.log_loss(jnp, theta, log_n, log_d)
    return jnp.sum(w * huber(jnp, residual, delta))


def _free(jnp: Any, theta: Any, gradient: Any, lower: Any, upper: Any) -> Any:
    """Coordinates not held at a bound that the gradient presses against."""
    at_lower = (theta <= lower) & (gradient > 0)
    at_upper = (theta >= upper) & (gradient < 0)
    return ~(at_lower | at_upper)


def _newton_step(
    jnp: Any, gradient: Any, hessian: Any, majoriser: Any, free: Any, damping: Any
) -> Any:
    """Damped saddle-free Newton step in the free coordinates, and its decrement without damping.

    Curvature enters by its absolute value, so that the step descends where the robust objective
    is not convex (Dauphin et al. 2014). The exact Hessian sees only the residuals within delta;
    damping adds the majoriser of Huber's loss, which knows how many kinks a step would cross
    (iteratively reweighted least squares, Holland and Welsch 1977).
    """
    both = free[:, None] & free[None, :]
    gradient = jnp.where(free, gradient, 0.0)
    eigenvalues, vectors = jnp.linalg.eigh(jnp.where(both, hessian, 0.0))
    curvature = jnp.abs(eigenvalues)
    largest = jnp.max(curvature) + jnp.max(jnp.abs(jnp.diagonal(majoriser))) + 1e-300
    floor = 1e-14 * largest * jnp.eye(len(gradient))
    damped = (
        (vectors * curvature[None, :]) @ vectors.T
        + damping * jnp.where(both, majoriser, 0.0)
        + floor
    )
    step = -jnp.where(free, jnp.linalg.solve(damped, gradient), 0.0)
    along = vectors.T @ gradient
    decrement = 0.5 * jnp.sum(along**2 / jnp.maximum(curvature, 1e-13 * largest))
    # A step longer than this leaves the region where the second derivatives mean anything.
    length = jnp.sqrt(jnp.sum(step**2))
    return step * jnp.minimum(1.0, 1.5 / (length + 1e-300)), decrement


@lru_cache(maxsize=32)
def _compiled(law: Law) -> Callable[..., Any]:
    """The solver of one law, for a chunk of rows; compiled once per number of points."""
    import jax
    import jax.numpy as jnp

    lower, upper = np.array(law.lower), np.array(law.upper)

    def solve_row(
        theta: Any, log_n: Any, log_d: Any, log_l: Any, w: Any, delta: Any, limit: Any
    ) -> Any:
        def value(t: Any) -> Any:
            return _row_objective(law, t, log_n, log_d, log_l, w, delta)

        def fitted(t: Any) -> Any:
            return law.log_loss(jnp, t, log_n, log_d)

        def expand(t: Any) -> Any:
            slopes = jax.jacfwd(fitted)(t)
            size = jnp.maximum(jnp.abs(log_l - fitted(t)), delta)
            majoriser = (slopes.T * (w * delta / size)[None, :]) @ slopes
            return value(t), jax.grad(value)(t), jax.hessian(value)(t), majoriser

        def propose(t: Any, here: Any, damping: Any) -> Any:
            _, g, h, m = here
            return _newton_step(jnp, g, h, m, _free(jnp, t, g, lower, upper), damping)

        floor = 1e-26 * jnp.sum(w)

        def going(state: Any) -> Any:
            (f, *_), _, _, damping, iteration, decrement = state
            small = decrement <= STOP_DECREMENT * f + floor
            return (iteration < limit) & (damping < 1e12) & ~small

        def advance(state: Any) -> Any:
            here, t, step, damping, iteration, decrement = state
            trial = jnp.clip(t + step, lower, upper)
            there = expand(trial)
            better = there[0] < here[0]
            here = jax.tree.map(lambda new, old: jnp.where(better, new, old), there, here)
            t = jnp.where(better, trial, t)
            damping = jnp.where(better, damping * 0.2, jnp.maximum(damping * 6.0, 1e-4))
            step, decrement = propose(t, here, damping)
            return here, t, step, damping, iteration + 1, decrement

        theta = jnp.clip(theta, lower, upper)
        here, damping = expand(theta), jnp.asarray(0.1)
        step, decrement = propose(theta, here, damping)
        state = (here, theta, step, damping, jnp.asarray(0), decrement)
        here, t, _, _, iteration, decrement = jax.lax.while_loop(going, advance, state)
        return t, here[0], here[1], here[2], decrement, iteration

    return jax.jit(jax.vmap(solve_row, in_axes=(0, None, None, 0, 0, None, None)))


def _padded(values: Array, size: int) -> Array:
    widths = [(0, 0)] * (values.ndim - 1) + [(0, size - values.shape[-1])]
    return np.pad(values, widths)


def solve(problem: Problem, starts: Array, *, max_iterations: int = MAX_ITERATIONS) -> Solutions:
    """Local minima reached from each start, S rows.

    Args:
      problem: data; log_l and weights of shape [n], or [S, n] to give each row its own.
      starts: coordinates [S, P], clipped to the box of the law.
      max_iterations: Newton steps per row; a row that uses them all is not certified.
    """
    shape = (len(starts), len(problem.log_n))
    log_l = np.broadcast_to(problem.log_l, shape)
    weights = np.broadcast_to(problem.weights, shape)
    first = _solve_rows(problem, starts, log_l, weights, min(FIRST_PASS, max_iterations))
    late = np.flatnonzero(~first.is_certified)
    if max_iterations <= FIRST_PASS or not len(late):
        return first
    left = max_iterations - FIRST_PASS
    second = _solve_rows(problem, first.theta[late], log_l[late], weights[late], left)
    return first.updated(late, second)


def _solve_rows(
    problem: Problem, starts: Array, log_l: Array, weights: Array, limit: int
) -> Solutions:
    """All rows in chunks of one shape, so that each number of points compiles once."""
    import jax

    n_rows = len(starts)
    size = -(-len(problem.log_n) // PAD) * PAD
    log_l, weights = _padded(log_l, size), _padded(weights, size)
    log_n, log_d = _padded(problem.log_n, size), _padded(problem.log_d, size)
    run = _compiled(problem.law)
    parts = []
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        for first in range(0, n_rows, CHUNK):
            # The last chunk is filled up with copies of its own first row.
            rows = np.arange(first, first + CHUNK)
            rows = np.where(rows < n_rows, rows, first)
            data = (log_n, log_d, log_l[rows], weights[rows], problem.delta)
            out = run(starts[rows], *data, limit)
            parts.append([np.asarray(x)[: n_rows - first] for x in out])
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Solutions(**dict(zip(Solutions.__slots__, columns, strict=True)))


def best_row(solutions: Solutions) -> int:
    """The row with the lowest objective; rows that are not finite never win."""
    return int(np.argmin(np.where(np.isfinite(solutions.objective), solutions.objective, np.inf)))


def distinct_minima(solutions: Solutions, n_most: int) -> Array:
    """Coordinates [M, P] of the certified minima, best first, each once."""
    order = np.argsort(np.where(solutions.is_certified, solutions.objective, np.inf))
    found: list[Array] = []
    for row in order[: int(solutions.is_certified.sum())]:
        theta = solutions.theta[row]
        if all(np.max(np.abs(theta - other)) > 1e-3 for other in found):
            found.append(theta)
    return np.array(found[:n_most]).reshape(-1, solutions.theta.shape[1])


def _bounds_touched(law: Law, theta: Array) -> tuple[str, ...]:
    touched = []
    for name, value, low, high in zip(law.coordinates, theta, law.lower, law.upper, strict=True):
        if value <= low or value >= high:
            side = "lower" if value <= low else "upper"
            touched.append(f"{name} at its {side} bound")
    return tuple(touched)


def _flat_directions(law: Law, eigenvalues: Array, vectors: Array) -> tuple[str, ...]:
    """Directions whose curvature is below 1e-7 of the largest, by their leading coordinates."""
    sentences = []
    for index in np.flatnonzero(eigenvalues < 1e-7 * eigenvalues.max()):
        vector = vectors[:, index]
        leading = np.flatnonzero(np.abs(vector) > 0.3 * np.abs(vector).max())
        sentences.append(" with ".join(f"{vector[i]:+.2f} {law.coordinates[i]}" for i in leading))
    return tuple(sentences)


def _status(solutions: Solutions, row: int, touched: tuple[str, ...], smallest: float) -> FitStatus:
    if touched:
        return FitStatus.AT_BOUND
    if not solutions.is_certified[row]:
        return FitStatus.MAX_ITER
    return FitStatus.CONVERGED if smallest > 0 else FitStatus.NOT_CONVEX


def certify(law: Law, solutions: Solutions) -> tuple[FitStatus, Certificate]:
    """Status and certificate of the best of several starts on one data set."""
    row = best_row(solutions)
    best = solutions.objective[row]
    eigenvalues, vectors = np.linalg.eigh(solutions.hessian[row])
    touched = _bounds_touched(law, solutions.theta[row])
    excess = (solutions.objective - best) / max(best, 1e-300)
    # On noise-free data every objective is rounding error: compare where the rows ended instead.
    near = np.max(np.abs(solutions.theta - solutions.theta[row]), axis=1) < 1e-5
    agree = near | (excess < 1e-9)
    others = solutions.is_certified & ~agree
    certificate = Certificate(
        objective=float(best),
        gradient_norm=float(np.linalg.norm(solutions.gradient[row])),
        newton_decrement=float(solutions.decrement[row]),
        hessian_eigenvalues=tuple(float(x) for x in eigenvalues),
        condition=float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues[0] > 0 else None,
        n_starts=len(solutions.objective),
        n_starts_agree=int(agree.sum()),
        next_best_excess=float(excess[others].min()) if others.any() else None,
        bounds_touched=touched,
        flat_directions=_flat_directions(law, eigenvalues, vectors),
    )
    return _status(solutions, row, touched, eigenvalues[0]), certificate
