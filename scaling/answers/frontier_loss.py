# SPDX-License-Identifier: Apache-2.0
"""The loss along a frontier in every replicate of a fit, and the compute that reaches a loss."""

from collections.abc import Callable

import numpy as np

from scaling.answers.frontier import finite_draws
from scaling.approaches.power_laws import power_law_draws
from scaling.fit import Fit, FitError
from scaling.laws.registry import law_named
from scaling.laws.size_ladder import Ladder, minimise
from scaling.tables.arrays import Array

# Decades of compute searched on both sides of the runs, and grid points over the whole range.
_DECADES = 8.0
_GRID = 49
_SECANTS = 6


def frontier_loss(fit: Fit) -> Callable[[Array, " slice"], Array]:
    """(log C [R, B], rows) -> log L* [R, B], for those rows of the estimate and replicates."""
    if fit.law == "power_laws":
        every = power_law_draws(fit)
        good = np.all(np.isfinite(list(every.values())), axis=0)
        draws = {name: values[good, None] for name, values in every.items()}
        log_ref = np.log(fit.parameters["flops_ref"])

        def along(log_c: Array, rows: slice) -> Array:
            E, K, c = (draws[name][rows] for name in ("E", "K", "c"))
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.log(E + K * np.exp(-c * (log_c - log_ref)))

        return along
    law, ladder = law_named(fit.law), Ladder.from_runs(fit.fitted_runs)
    if not law.is_surface:
        raise FitError(f"{fit.name} is no surface over n_params and n_tokens: it has no frontier")
    parameters = finite_draws(fit)

    def along_surface(log_c: Array, rows: slice) -> Array:
        log_loss = law.log_loss_of(parameters[rows])
        log_c = np.broadcast_to(log_c, (len(parameters[rows]), log_c.shape[-1]))
        log_n = minimise(log_loss, ladder, log_c)
        return log_loss(log_n, log_c - ladder.log_cost(log_n))

    return along_surface


def compute_at(fit: Fit, front: Callable[[Array, " slice"], Array], log_loss: Array) -> Array:
    """log C [1 + R, B] at which L*(C) is each level; inf where it is never reached.

    A grid brackets it, secant steps close on it: L* is smooth and falls with C.
    """
    flops, reach = fit.fitted_runs.flops, _DECADES * np.log(10.0)
    grid = np.linspace(np.log(flops.min()) - reach, np.log(flops.max()) + reach, _GRID)
    values = front(grid[None, :], slice(None))
    # The loss at the largest compute; NaN where the optimum lies beyond the sizes searched.
    floor = values[:, -1:]
    start = np.array([_crossing(grid, row, log_loss) for row in values])
    known = np.isfinite(start)
    # Rows without a start are carried along and forgotten.
    x0, x1 = np.where(known, start, grid[0]), np.where(known, start, grid[0]) + 1e-3
    y0, y1 = front(x0, slice(None)) - log_loss, front(x1, slice(None)) - log_loss
    for _ in range(_SECANTS):
        with np.errstate(invalid="ignore", divide="ignore"):
            step = np.where(y1 != y0, y1 * (x1 - x0) / (y1 - y0), 0.0)
        x0, y0, x1 = x1, y1, x1 - np.nan_to_num(np.clip(step, -1.0, 1.0))
        y1 = front(x1, slice(None)) - log_loss
    never = ~known & (floor > log_loss)
    return np.where(known & (np.abs(y1) < 1e-9), x1, np.where(never, np.inf, np.nan))


def _crossing(grid: Array, values: Array, levels: Array) -> Array:
    """Where a falling curve meets each level, by straight lines; NaN where it does not."""
    good = np.isfinite(values)
    if good.sum() < 2:
        return np.full(len(levels), np.nan)
    x, y = grid[good][::-1], np.maximum.accumulate(values[good][::-1])
    return np.interp(levels, y, x, left=np.nan, right=np.nan)
