# SPDX-License-Identifier: Apache-2.0
"""Intervals, and numbers that carry one: alone, or one per budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

from scaling.tables.arrays import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Two-sided interval; NaN where the data give none."""

    lower: float
    upper: float

    @classmethod
    def of(cls, draws: Float[Array, " R"], level: float) -> Interval:
        """Percentile interval of the draws [R] that are finite (Efron 1979)."""
        finite = draws[np.isfinite(draws)]
        if len(finite) < 2:
            return UNKNOWN
        lower, upper = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
        return cls(lower=float(lower), upper=float(upper))

    def __str__(self) -> str:
        return f"{self.lower:.4g} to {self.upper:.4g}" if self.is_known else "no interval"

    @property
    def is_known(self) -> bool:
        return math.isfinite(self.lower) and math.isfinite(self.upper)

    def times(self, factor: float) -> Interval:
        """In another unit; ``factor`` is positive."""
        return Interval(lower=self.lower * factor, upper=self.upper * factor)


UNKNOWN = Interval(lower=math.nan, upper=math.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """A number with its interval."""

    value: float
    interval: Interval

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.interval})"

    @classmethod
    def of(cls, draws: Float[Array, " draws"], level: float) -> Estimated:
        """From draws [1 + R] whose first is the estimate."""
        return cls(value=float(draws[0]), interval=Interval.of(draws[1:], level))

    def times(self, factor: float) -> Estimated:
        """In another unit; ``factor`` is positive."""
        return Estimated(value=self.value * factor, interval=self.interval.times(factor))

    def with_error(self, standard_error: float, level: float) -> Estimated:
        """With an independent normal error added: both sides grow in quadrature."""
        half = NormalDist().inv_cdf((1 + level) / 2) * standard_error
        below, above = self.value - self.interval.lower, self.interval.upper - self.value
        ends = self.value - math.hypot(below, half), self.value + math.hypot(above, half)
        return Estimated(value=self.value, interval=Interval(lower=ends[0], upper=ends[1]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Band:
    """A quantity at each budget, [B], with the ends of its interval; NaN where unknown."""

    value: Float[Array, " B"]
    lower: Float[Array, " B"]
    upper: Float[Array, " B"]

    @classmethod
    def of(cls, draws: Float[Array, "draws B"], level: float) -> Band:
        """From draws [1 + R, B] whose first row is the estimate."""
        ends = [Interval.of(column, level) for column in draws[1:].T]
        lower, upper = np.array([(end.lower, end.upper) for end in ends]).reshape(-1, 2).T
        return cls(value=draws[0], lower=lower, upper=upper)

    @classmethod
    def side_by_side(cls, found: Sequence[Estimated]) -> Band:
        """One after another."""
        rows = [(one.value, one.interval.lower, one.interval.upper) for one in found]
        value, lower, upper = np.array(rows).reshape(-1, 3).T
        return cls(value=value, lower=lower, upper=upper)

    def at(self, i: int) -> Estimated:
        """The quantity at one budget."""
        interval = Interval(lower=float(self.lower[i]), upper=float(self.upper[i]))
        return Estimated(value=float(self.value[i]), interval=interval)
