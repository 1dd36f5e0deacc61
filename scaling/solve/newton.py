# SPDX-License-Identifier: Apache-2.0
"""The batched damped Newton solver that every parametric fit uses.

All starts and all bootstrap replicates of a fit are rows of one batch, solved by one compiled
program in float64 on the CPU, with exact derivatives (JAX). Asking JAX for the CPU still
initialises every platform: set JAX_PLATFORMS=cpu before JAX is imported in a process that only
fits.

`newton_step` says what a step is.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from scaling.solve.newton_step import LONGEST_STEP, newton_steps
from scaling.solve.problem import Problem
from scaling.tables.arrays import Array

# Rows per compiled call where a row has few numbers, and where it has more than _MANY: there the
# call itself costs nothing beside them, and rows that only fill it up do. Points are padded (with
# weight zero) to a multiple of PAD: few shapes, so few compilations.
CHUNK, CHUNK_OF_LARGE = 12, 2
_MANY = 4096
PAD = 32
# Chunks at once; more would wait for one another, for they begin and end in Python.
_THREADS = min(4, os.cpu_count() or 1)
# Steps per call; rows that need more are gathered and go on together, so that none waits.
BURST = 8
MAX_ITERATIONS = 1000
# Newton decrement (the predicted gain of one more step) relative to the objective: below the
# first, one last step reaches the minimum to rounding; the second still counts as converged.
STOP_DECREMENT = 1e-13
CERTIFIED_DECREMENT = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Solutions:
    """Where each row of a batch ended: S rows of F coordinates.

    decrement: what one more Newton step is predicted to gain; infinite where the Hessian is not
    positive definite.
    """

    theta: Float[Array, "S F"]
    objective: Float[Array, " S"]
    gradient: Float[Array, "S F"]
    hessian: Float[Array, "S F F"]
    decrement: Float[Array, " S"]
    n_iterations: Float[Array, " S"]

    @property
    def is_certified(self) -> Bool[Array, " S"]:
        """Rows at a minimum to rounding (bounds are judged apart)."""
        small = self.decrement <= CERTIFIED_DECREMENT * np.abs(self.objective) + 1e-22
        return small & np.isfinite(self.objective)


def solve(
    problem: Problem,
    starts: Float[Array, "S F"],
    *,
    max_iterations: int = MAX_ITERATIONS,
    stop: float = STOP_DECREMENT,
) -> Solutions:
    """Local minima reached from each start, S rows.

    Args:
      problem: rows of y, weights, offset and delta belong to rows of the starts.
      starts: coordinates [S, F], clipped to the box.
      max_iterations: steps per row; a row that uses them all is not certified.
      stop: Newton decrement relative to the objective at which a row ends.
    """
    n_rows = len(starts)
    state = _fresh(np.clip(starts, problem.lower, problem.upper))
    data = _row_data(problem, n_rows)
    shared = _shared(problem, stop)
    burst = newton_steps(problem.law, problem.objective.kind, problem.objective.is_log)
    n_numbers = sum(np.asarray(column).size for column in problem.x.values())
    size = CHUNK_OF_LARGE if n_numbers > _MANY else CHUNK

    def go_on(rows: Array, limit: int) -> None:
        # The last chunk is filled up with copies of its own first row.
        filled = np.concatenate([rows, np.full(size - len(rows), rows[0])])
        with _float64_on_the_cpu():
            out = burst([s[filled] for s in state], [d[filled] for d in data], shared, limit)
        for column, values in zip(state, out, strict=True):
            column[rows] = np.asarray(values)[: len(rows)]

    going = np.arange(n_rows)
    with ThreadPoolExecutor(_THREADS) as threads:
        for first in range(0, max(max_iterations, 1), BURST):
            if not len(going):
                break
            limit = min(BURST, max_iterations + 1 - first)
            chunks = [going[i : i + size] for i in range(0, len(going), size)]
            if not first:  # It compiles the program.
                go_on(chunks.pop(0), limit)
            list(threads.map(go_on, chunks, repeat(limit)))
            going = going[state[-1][going] > 0]
    theta, objective, gradient, hessian, _, _, _, _, decrement, n_iterations, _ = state
    return Solutions(
        theta=theta,
        objective=objective,
        gradient=gradient,
        hessian=hessian,
        decrement=decrement,
        n_iterations=n_iterations - 1,
    )


@contextmanager
def _float64_on_the_cpu() -> Iterator[None]:
    """Whatever the process has set for training; a law written for numpy broadcasts as there."""
    import jax

    with (
        jax.enable_x64(True),
        jax.default_device(jax.local_devices(backend="cpu")[0]),
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
    ):
        yield


def _fresh(theta: Array) -> list[Array]:
    """State of rows not yet evaluated: their first step has length zero and is accepted.

    theta, objective, gradient, hessian, majoriser, damping, reach, step, decrement, iterations,
    going.
    """
    n_rows, n_free = theta.shape
    square = np.tile(np.eye(n_free), (n_rows, 1, 1))
    return [
        theta.copy(),
        np.full(n_rows, np.inf),
        np.zeros((n_rows, n_free)),
        square,
        square.copy(),
        np.full(n_rows, 0.1),
        np.full(n_rows, LONGEST_STEP),
        np.zeros((n_rows, n_free)),
        np.full(n_rows, np.inf),
        np.zeros(n_rows),
        np.ones(n_rows),
    ]


def _padded(values: Array, size: int, axis: int) -> Array:
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, size - values.shape[axis])
    return np.pad(values, widths, mode="edge")


def _row_data(problem: Problem, n_rows: int) -> list[Array]:
    """y, weights [S, n], offset [S, P], delta [S] of every row; padded points weigh nothing."""
    n = problem.n_points
    size = -(-n // PAD) * PAD
    y = np.broadcast_to(_padded(problem.y, size, -1), (n_rows, size))
    weights = _padded(problem.weights, size, -1).astype(float)
    weights[..., n:] = 0.0
    return [
        y,
        np.broadcast_to(weights, (n_rows, size)),
        np.broadcast_to(problem.offset, (n_rows, len(problem.expand))),
        np.broadcast_to(np.asarray(problem.delta, float), (n_rows,)),
    ]


def _shared(problem: Problem, stop: float) -> dict[str, Any]:
    n = problem.n_points
    size = -(-n // PAD) * PAD
    # Rounding error of a sum of squares: noise-free data end here.
    is_unitless = problem.objective.is_log or not problem.y.size
    unit = 1.0 if is_unitless else float(np.mean(problem.y**2))
    return {
        "x": {name: _padded(np.asarray(v), size, 0) for name, v in problem.x.items()},
        "expand": problem.expand,
        "lower": problem.lower,
        "upper": problem.upper,
        "is_constant": problem.is_constant,
        "tails": np.array(problem.objective.tails()),
        "parameter": np.nan_to_num(problem.objective.parameter),
        "stop": stop,
        "floor": 1e-26 * n * unit,
    }


def best_row(solutions: Solutions) -> int:
    """The row with the lowest objective; rows that are not finite never win."""
    return int(np.argmin(np.where(np.isfinite(solutions.objective), solutions.objective, np.inf)))
