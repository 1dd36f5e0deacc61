# SPDX-License-Identifier: Apache-2.0
"""Which law and which fit extrapolate best, by rows held out at the far end of a table.

Held out are the rows that lie farthest out: the dearest, those with most of a column, or, where
all are alike in that, those farthest from the others. Rows that a law is to predict are not needed,
and not read: they lie beyond the table as the rows held out lie beyond the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Real, Shaped

from scaling.approaches.columns import ALL, Table, Way, fit_columns
from scaling.fit import FitError
from scaling.tables.arrays import Array

# Shares of the rows that are held out.
_SHARES = (0.1, 0.2, 0.35)
# Of the rows, the most that are held out where many cost the same.
_MOST = 0.6
# Ways that do so nearly as well as the best are not told apart, and the simplest of them is taken.
_NEARLY = 1.05
# Of fewer rows each is held out by itself.
_FEW = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How a way predicts what was held out.

    Fields:
      error: geometric mean over the cuts of the root mean square error, in the targets' unit;
        infinite where some cut leaves too few rows, or a prediction is not finite.
      r2: mean over the cuts of R2 over the rows held out, clipped to [-1, 1].
    """

    way: Way
    error: float
    r2: float


def cuts(
    table: Table, *, far: Real[Array, " n"], groups: Shaped[Array, " n"] | None = None
) -> list[Bool[Array, " n"]]:
    """Masks [n] of the rows held out, each group divided alike.

    Args:
      far: how far out each row lies, such as its cost.
    """
    labels = np.full(len(far), ALL) if groups is None else np.asarray(groups, str)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if min(len(rows) for rows in members) < _FEW:
        return _each(len(far), members)
    far = np.asarray(far, float) if np.ptp(far) > 0 else _remoteness(table, members)
    found: list[Array] = []
    for share in _SHARES:
        mask = np.zeros(len(far), bool)
        for rows in members:
            mask[rows] = _top(far[rows], share)
        if not any(np.array_equal(mask, other) for other in found) and mask.mean() <= _MOST:
            found.append(mask)
    return found


def _each(n: int, members: list[Array]) -> list[Array]:
    """The k-th row of every group, for every k."""
    found = []
    for k in range(max(len(rows) for rows in members)):
        mask = np.zeros(n, bool)
        mask[[rows[k] for rows in members if k < len(rows)]] = True
        found.append(mask)
    return found


def _top(values: Array, share: float) -> Array:
    """The rows with the largest values: at least that share, and never a part of equal ones."""
    limit = np.sort(values)[::-1][max(1, int(np.ceil(share * len(values)))) - 1]
    return np.asarray(values >= limit)


def _remoteness(table: Table, members: list[Array]) -> Array:
    """Distance of each row from the middle of its group, in standard deviations of columns."""
    numeric = [np.asarray(v, float) for v in table.values() if np.issubdtype(v.dtype, np.number)]
    columns = np.stack(numeric, axis=1)
    far = np.zeros(len(columns))
    for rows in members:
        centred = columns[rows] - columns[rows].mean(axis=0)
        far[rows] = np.sum((centred / (centred.std(axis=0) + 1e-300)) ** 2, axis=1)
    return far


def score(
    table: Table,
    way: Way,
    held_out: Sequence[Bool[Array, " n"]],
    *,
    targets: tuple[str, ...],
    groups: Shaped[Array, " n"] | None = None,
    cost: Real[Array, " n"],
) -> Score:
    """How a way, fitted without each of the cuts, predicts them."""
    squares, r2 = [], []
    for mask in held_out:
        kept = {name: values[~mask] for name, values in table.items()}
        out = {name: values[mask] for name, values in table.items()}
        labels = (None, None) if groups is None else (groups[~mask], groups[mask])
        try:
            fit = fit_columns(kept, way, targets=targets, groups=labels[0], cost=cost[~mask])
            predicted = fit.predict(out, labels[1])
        except (FitError, ValueError):
            return Score(way=way, error=np.inf, r2=-1.0)
        observed = np.stack([out[name] for name in targets], axis=1)
        squares.append(float(np.mean((predicted - observed) ** 2)))
        r2.append(r_squared(observed, predicted))
    error = float(np.exp(0.5 * np.mean(np.log(np.array(squares) + 1e-300)))) if squares else np.inf
    return Score(
        way=way,
        error=error if np.isfinite(error) else np.inf,
        r2=float(np.mean(r2)) if r2 else -1.0,
    )


def r_squared(observed: Float[Array, "*shape"], predicted: Float[Array, "*shape"]) -> float:
    """1 - residual over total sum of squares, clipped to [-1, 1]; -1 where it is not finite."""
    with np.errstate(all="ignore"):
        rest = np.sum((observed - predicted) ** 2) / np.sum((observed - observed.mean()) ** 2)
    return float(np.clip(1.0 - rest, -1.0, 1.0)) if np.isfinite(rest) else -1.0


def best(scores: Sequence[Score], targets: tuple[str, ...]) -> Score:
    """The simplest of those nearly as good as the best, or of all where none has a score."""

    def n_free(one: Score) -> int:
        return max(one.way.n_free(target) for target in targets)

    lowest = min(one.error for one in scores)
    near = [one for one in scores if one.error <= _NEARLY * lowest]
    return min(near, key=lambda one: (n_free(one), one.error))
