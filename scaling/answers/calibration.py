# SPDX-License-Identifier: Apache-2.0
"""How often intervals held what came out, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy.special import betaincinv

from scaling.intervals import Band, Estimated, Interval
from scaling.tables.arrays import Array


def coverage(
    is_inside: Bool[Array, " n"], groups: Shaped[Array, " n"], *, level: float = 0.95
) -> Estimated:
    """Share of intervals that hold what came out, with its interval (Clopper and Pearson 1934).

    A group is one trial, whose success is the share of its intervals that hold: those of one study
    share its grid, and may all fail together. With one interval per group it is the exact binomial.

    Args:
      is_inside: of each interval. groups: of which study it is.
      level: of the interval of the share.

    Raises:
      ValueError: without intervals.
    """
    if not len(is_inside):
        raise ValueError("a share of no intervals is not known; give one at least")
    shares = [float(np.mean(is_inside[groups == group])) for group in np.unique(groups)]
    n, n_inside = len(shares), float(np.sum(shares))
    tail = (1 - level) / 2
    lower = betaincinv(n_inside, n - n_inside + 1, tail) if n_inside > 0 else 0.0
    upper = betaincinv(n_inside + 1, n - n_inside, 1 - tail) if n_inside < n else 1.0
    interval = Interval(lower=float(lower), upper=float(upper))
    return Estimated(value=n_inside / n, interval=interval)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Observed against nominal coverage of central intervals.

    Fields:
      levels: nominal, ascending, [B]. observed: share inside, with the interval of `coverage`.
      n_forecasts, n_groups: that were judged.
    """

    levels: Float[Array, " B"]
    observed: Band
    n_forecasts: int
    n_groups: int


def calibration(
    probabilities: Sequence[float],
    quantiles: Float[Array, "n P"],
    outcomes: Float[Array, " n"],
    groups: Shaped[Array, " n"],
) -> Calibration:
    """Coverage at every level that the quantiles have the two ends of.

    Args:
      probabilities: [P], ascending, p beside each 1 - p. quantiles: of each forecast at them.
      outcomes: what came out; infinite where the run diverged. groups: as in `coverage`.

    Raises:
      ValueError: without forecasts.
    """
    n_levels = len(probabilities) // 2
    ends = [(quantiles[:, i], quantiles[:, -1 - i]) for i in reversed(range(n_levels))]
    found = [coverage((low <= outcomes) & (outcomes <= high), groups) for low, high in ends]
    return Calibration(
        levels=np.array([1 - 2 * probabilities[i] for i in reversed(range(n_levels))]),
        observed=Band.side_by_side(found),
        n_forecasts=len(outcomes),
        n_groups=len(np.unique(groups)),
    )
