# SPDX-License-Identifier: Apache-2.0
"""Which rows of a table to pay for: those that most narrow a law's predictions of its far rows.

Sequential c-optimal design for any law, through the slopes of its predictions: with the law linear
in its parameters to first order, the variance at the rows to predict falls by a known amount for
each row, before its target is seen. Rows are taken by that fall per cost; the law is fitted again
as their number grows. The first rows are taken by the same rule for a quadratic form in the
columns, which needs no fit.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Real

from scaling.approaches.columns import Table, Way, fit_columns
from scaling.fit import FitError
from scaling.solve.regression import slopes_at
from scaling.tables.arrays import Array

# Of the budget, charged to each row in the choice only: many rows that cost nothing and tell
# nothing would be taken otherwise.
_PER_ROW = 0.005
# Of the rows, the share that stands for what is to be predicted.
_FAR = 0.2
# How much the rows grow before the law is fitted again, and the most rows that are taken blindly,
# per parameter.
_GROWTH, _BLIND = 1.4, 2.0
# Prior standard deviations of coordinates, and of the quadratic form in units of its noise.
_PRIOR_SD, _BLIND_SD, _BLIND_NOISE = 3.0, 1.0, 0.05


def choose_rows(
    table: Table,
    way: Way,
    *,
    targets: tuple[str, ...],
    cost: Real[Array, " n"],
    budget: float,
    far: Real[Array, " n"] | None = None,
) -> list[int]:
    """Rows in the order in which they are taken, of all but no more than the budget.

    Targets are read of rows that were taken, and of no others.

    Args:
      table: numbers [n] by name. cost: of each row; a row that would pass the budget is passed
        over for a cheaper one.
      far: how far out each row lies; the farthest stand for those to predict. The cost by default.
    """
    x = way.law.read(table)
    n_blind = int(_BLIND * max(way.n_free(target) for target in targets))
    far = cost if far is None else far
    is_far = far >= np.quantile(far, 1.0 - _FAR)
    blind = [_quadratic(x) / _BLIND_NOISE]
    chosen: list[int] = []
    slopes, prior = blind, _BLIND_SD
    while True:
        most = max(n_blind, int(np.ceil(_GROWTH * len(chosen)))) - len(chosen)
        taken = _take(slopes, prior, chosen, is_far, cost, budget, max(most, 1))
        if not taken:
            return chosen
        chosen += taken
        try:
            kept = {name: np.asarray(values)[chosen] for name, values in table.items()}
            fit = fit_columns(kept, way, targets=targets, cost=cost[chosen], spare=1)
        except FitError:
            continue
        found = [slopes_at(one, x) / _scatter(one.residuals) for one in fit.estimates.values()]
        if all(np.all(np.isfinite(one)) for one in found):
            slopes, prior = found, _PRIOR_SD


def _scatter(residuals: Float[Array, " n"]) -> float:
    """Standard deviation of residuals; far ones weigh less. Never nothing: laws are not exact."""
    return max(1.4826 * float(np.median(np.abs(residuals))), 1e-4)


def _quadratic(x: Table) -> Float[Array, "n K"]:
    """1, z and z^2 of every column, z with mean 0 and standard deviation 1."""
    columns = np.stack(list(x.values()), axis=1)
    z = (columns - columns.mean(axis=0)) / (columns.std(axis=0) + 1e-12)
    return np.concatenate([np.ones((len(z), 1)), z, z**2], axis=1)


def _take(
    slopes: Sequence[Float[Array, "n F"]],
    prior: float,
    chosen: Sequence[int],
    is_far: Bool[Array, " n"],
    cost: Real[Array, " n"],
    budget: float,
    most: int,
) -> list[int]:
    """Up to so many further rows, one after the other by the fall of variance per cost.

    Args:
      slopes: of each target's prediction, over the scatter of its rows.
    """
    covariances = [_covariance(one, prior, chosen) for one in slopes]
    is_free = np.ones(len(cost), bool)
    is_free[list(chosen)] = False
    left = budget - float(cost[list(chosen)].sum())
    taken: list[int] = []
    while len(taken) < most:
        gains = np.zeros(len(cost))
        for one, covariance in zip(slopes, covariances, strict=True):
            along = one @ covariance
            own = np.einsum("nf,nf->n", along, one)
            there = np.einsum("tf,tf->t", along[is_far], one[is_far])
            falls = (along[is_far] @ one.T) ** 2 / (1.0 + own)
            # The relative fall at each far row: none of them, nor a target, outweighs the others.
            gains += np.mean(falls / there[:, None], axis=0)
        legal = is_free & (cost <= left * (1 + 1e-9))
        if not legal.any():
            return taken
        worth = np.where(legal, gains / (cost + _PER_ROW * budget), -np.inf)
        row = int(np.argmax(worth))
        taken.append(row)
        is_free[row] = False
        left -= float(cost[row])
        covariances = [
            covariance - np.outer(covariance @ one[row], covariance @ one[row])
            / (1.0 + one[row] @ covariance @ one[row])
            for one, covariance in zip(slopes, covariances, strict=True)
        ]  # fmt: skip
    return taken


def _covariance(slopes: Float[Array, "n F"], prior: float, chosen: Sequence[int]) -> Array:
    rows = slopes[list(chosen)]
    precision = rows.T @ rows + np.eye(slopes.shape[1]) / prior**2
    return np.linalg.inv(precision)
