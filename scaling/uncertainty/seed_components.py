# SPDX-License-Identifier: Apache-2.0
"""What of the spread between seeds comes from the initialisation, and what from the data order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.tables.arrays import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedComponents:
    """Standard deviations of the loss, in its unit, by cause.

    init_sd, data_sd: of the mean over the other one; 0 where the rest explains all there is.
    rest_sd: what neither of the two explains by itself. n_points: configurations pooled.
    """

    init_sd: float
    data_sd: float
    rest_sd: float
    n_points: int


def seed_components(losses: Sequence[Float[Array, "_init _data"]]) -> SeedComponents:
    """From configurations trained with every pair of some initial and some data seeds.

    Analysis of variance of two crossed random effects without repeats (Searle, Casella & McCulloch
    1992, ch. 4): the mean squares of rows, columns and the rest have the expectations
    rest + n_data init, rest + n_init data, and rest; the estimates of all configurations are
    averaged by their degrees of freedom.

    Args:
      losses: of each configuration, by initial seed and data seed; at least two of either.

    Raises:
      ValueError: if there is no such configuration.
    """
    crossed = [np.asarray(table, float) for table in losses if min(table.shape) > 1]
    if not crossed:
        raise ValueError("no configuration has two seeds of either kind, each with each.")
    found = np.array([_components(table) for table in crossed])
    variances = np.average(found[:, 0], axis=0, weights=found[:, 1])
    sds = [math.sqrt(max(variance, 0.0)) for variance in variances.tolist()]
    return SeedComponents(init_sd=sds[0], data_sd=sds[1], rest_sd=sds[2], n_points=len(crossed))


def _components(table: Float[Array, "n_init n_data"]) -> Float[Array, "2 3"]:
    """Variances of initialisation, data order and the rest, and degrees of freedom of each."""
    n_init, n_data = table.shape
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    left = table - rows[:, None] - columns + table.mean()
    dof = n_init - 1, n_data - 1, (n_init - 1) * (n_data - 1)
    rest = np.sum(left**2) / dof[2]
    of_rows, of_columns = n_data * np.var(rows, ddof=1), n_init * np.var(columns, ddof=1)
    return np.array([[(of_rows - rest) / n_data, (of_columns - rest) / n_init, rest], dof])
