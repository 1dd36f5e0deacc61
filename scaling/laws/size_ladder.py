# SPDX-License-Identifier: Apache-2.0
"""Relations among compute C, parameters N and tokens D under a named FLOP convention.

Under C = 6ND the optimum of a loss surface has a closed form. Under every other convention a
token costs flops_per_token(N) FLOPs, known along the runs' own ladder of sizes only; the optimum
is then the numerical minimum of L(N, C / flops_per_token(N)).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy.polynomial import Polynomial
from numpy.typing import ArrayLike

from scaling.tables.arrays import Array
from scaling.tables.runs import Runs

if TYPE_CHECKING:
    from scipy.interpolate import PchipInterpolator

# Sizes closer than this are one rung: a slope between them would be rounding error.
_SAME_SIZE = 1e-3
# As tables are read (`columns.convention_of`): published FLOPs have three or four digits.
_ROUNDING = 1e-3
# Largest misfit of the cubic, in log flops_per_token.
_SMOOTH = 0.01
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Ladder:
    """FLOPs per token along a ladder of sizes, in logarithms.

    A cubic of log flops_per_token in log N where it passes within 1 % of every size: widths
    and heads are rounded, and a curve through every rounding would put ripples into the
    derivative and so into N*(C). Otherwise monotone cubic interpolation (Fritsch and Carlson
    1980). Beyond the ends the straight line goes on: along the cubic's slope there, else
    through the end size and the nearest one at least a factor 2 away. For 6ND both are exact.
    """

    log_n_params: Float[Array, " K"]
    log_flops_per_token: Float[Array, " K"]
    spread: float

    @classmethod
    def from_runs(cls, runs: Runs) -> Ladder:
        """The ladder of these runs: the mean of log flops_per_token at each distinct size."""
        log_n = np.log(runs.n_params)
        order = np.argsort(log_n, kind="stable")
        log_n, log_f = log_n[order], np.log(runs.flops_per_token)[order]
        rung = np.concatenate([[0], np.cumsum(np.diff(log_n) > _SAME_SIZE)])
        counts = np.bincount(rung)
        mean_n = np.bincount(rung, log_n) / counts
        mean_f = np.bincount(rung, log_f) / counts
        ratio = (log_f - log_n) - (mean_f - mean_n)[rung]
        return cls(
            log_n_params=mean_n,
            log_flops_per_token=mean_f,
            spread=float(np.ptp(ratio)) if len(ratio) else 0.0,
        )

    @property
    def is_6nd(self) -> bool:
        """Whether every size costs 6N FLOPs per token, to rounding."""
        ratio = self.log_flops_per_token - self.log_n_params - np.log(6.0)
        return bool(np.max(np.abs(ratio)) < _ROUNDING) and self.spread < 2 * _ROUNDING

    @property
    def n_params_range(self) -> tuple[float, float]:
        return float(np.exp(self.log_n_params[0])), float(np.exp(self.log_n_params[-1]))

    @property
    def findings(self) -> tuple[str, ...]:
        if self.spread < 0.01:
            return ()
        return (
            f"flops_per_token differs by up to {100 * self.spread:.1f} % among runs of one size; "
            "their mean is used along the size ladder.",
        )

    @cached_property
    def _cubic(self) -> Polynomial | None:
        """log flops_per_token as a cubic of log N (less for few sizes), None where it misfits."""
        x, y = self.log_n_params, self.log_flops_per_token
        cubic = Polynomial.fit(x, y, min(3, (len(x) + 1) // 2))
        slopes = cubic.deriv()(np.linspace(x[0], x[-1], 33))
        fits = np.max(np.abs(cubic(x) - y)) <= _SMOOTH and np.min(slopes) > 0
        return cubic if fits else None

    @cached_property
    def _inside(self) -> Callable[[Array], Array]:
        return self._cubic or self._monotone

    @cached_property
    def _monotone(self) -> PchipInterpolator:
        from scipy.interpolate import PchipInterpolator

        return PchipInterpolator(self.log_n_params, self.log_flops_per_token)

    @cached_property
    def _end_slopes(self) -> tuple[float, float]:
        x, y = self.log_n_params, self.log_flops_per_token
        if self._cubic is not None:
            low, high = self._cubic.deriv()(x[[0, -1]])
            return float(low), float(high)
        far_up = np.flatnonzero(x - x[0] >= np.log(2.0))
        far_down = np.flatnonzero(x[-1] - x >= np.log(2.0))
        up = far_up[0] if len(far_up) else len(x) - 1
        down = far_down[-1] if len(far_down) else 0
        low = (y[up] - y[0]) / (x[up] - x[0])
        return float(low), float((y[-1] - y[down]) / (x[-1] - x[down]))

    @cached_property
    def pieces(self) -> tuple[Array, Array]:
        """The same curve as cubics, for formulas that are differentiated: knots [K], [4, K].

        From knot k up to the next it is c0 t^3 + c1 t^2 + c2 t + c3 with t = log N - knot_k. The
        first piece also serves below its knot.
        """
        x, y = self.log_n_params, self.log_flops_per_token
        if len(x) == 1:
            return x, np.array([[0.0], [0.0], [1.0], [y[0]]])
        low, high = self._end_slopes
        if self._cubic is not None:
            inner = [float(self._cubic.deriv(k)(x[0])) / (1, 1, 2, 6)[k] for k in (3, 2, 1)]
            cubics = np.array([*inner, float(self._cubic(x[0]))])[:, None]
            knots = x[:1]
        else:
            knots, cubics = x[:-1], self._monotone.c
        below, above = [0.0, 0.0, low, float(self._inside(x[0]))], [0.0, 0.0, high]
        last = [*above, float(self._inside(x[-1]))]
        ends = np.column_stack([below, cubics, last])
        return np.concatenate([x[:1], knots, x[-1:]]), ends

    def log_cost(self, log_n: Array) -> Array:
        """log flops_per_token at log N, same shape."""
        x, y = self.log_n_params, self.log_flops_per_token
        if len(x) == 1:
            return y[0] + (log_n - x[0])
        low, high = self._end_slopes
        inside = self._inside(np.clip(log_n, x[0], x[-1]))
        return inside + low * np.minimum(log_n - x[0], 0) + high * np.maximum(log_n - x[-1], 0)

    def flops_per_token(self, n_params: ArrayLike) -> Array:
        """Training FLOPs per token at a size."""
        return np.exp(self.log_cost(np.log(np.asarray(n_params, float))))

    def n_tokens(self, flops: ArrayLike, n_params: ArrayLike) -> Array:
        """Tokens that a budget buys at a size: D = C / flops_per_token(N)."""
        return np.asarray(flops, float) / self.flops_per_token(n_params)


def minimise(
    log_loss: Callable[[Array, Array], Array],
    ladder: Ladder,
    log_flops: Float[Array, "*draws B"],
    *,
    decades: float = 6.0,
) -> Float[Array, "*draws B"]:
    """log N*(C): where log_loss(log N, log D) is lowest on each isoFLOP line, as `lowest`.

    Args:
      log_loss: broadcasts over leading axes; called with arrays [..., R, B] or [..., B].
      ladder: gives D = C / flops_per_token(N).
      log_flops: log C, shape [R, B] or [B].
      decades: how far beyond both ends of the ladder to look.

    Returns:
      log N*, shape of log_flops; NaN where the minimum is at the edge of what was searched.
    """

    def along(log_n: Array) -> Array:
        return log_loss(log_n, log_flops - ladder.log_cost(log_n))

    return lowest(along, ladder, np.shape(log_flops), decades=decades)


def lowest(
    along: Callable[[Array], Array],
    ladder: Ladder,
    shape: tuple[int, ...],
    *,
    decades: float,
    n_grid: int = 97,
) -> Float[Array, "*shape"]:
    """log N of the lowest value of many functions at once.

    A grid brackets each minimum, golden sections close on it to about 1e-8 in log N.

    Args:
      along: of log N [..., *shape], one function at each place of the shape.
      decades: how far beyond both ends of the ladder to look.

    Returns:
      log N*; NaN where the minimum is at the edge of what was searched.
    """
    reach = decades * np.log(10.0)
    knots = ladder.log_n_params
    grid = np.linspace(knots[0] - reach, knots[-1] + reach, n_grid)
    values = along(grid.reshape((n_grid,) + (1,) * len(shape)) + np.zeros(shape))
    best = np.argmin(values, axis=0)
    is_edge = (best == 0) | (best == n_grid - 1) | ~np.isfinite(np.min(values, axis=0))
    best = np.clip(best, 1, n_grid - 2)
    found = golden_section(along, grid[best - 1], grid[best + 1])
    return np.where(is_edge, np.nan, found)


def golden_section(
    along: Callable[[Array], Array], low: Float[Array, "*shape"], high: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Minimum of each bracketed function, by golden sections (Kiefer 1953)."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    f_left, f_right = along(left), along(right)
    for _ in range(45):
        go_left = f_left < f_right
        low, high = np.where(go_left, low, left), np.where(go_left, right, high)
        probe = np.where(go_left, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        f_probe = along(probe)
        left, right = np.where(go_left, probe, right), np.where(go_left, left, probe)
        f_left, f_right = np.where(go_left, f_probe, f_right), np.where(go_left, f_left, f_probe)
    return 0.5 * (low + high)


def local_exponents(
    log_loss: Callable[[Array, Array], Array], ladder: Ladder, log_flops: Float[Array, "*draws B"]
) -> tuple[Float[Array, "*draws B"], Float[Array, "*draws B"]]:
    """Local exponents d ln N*/d ln C and d ln D*/d ln C, by central differences.

    Under C = 6ND they are a and b of the closed form at every C and sum to 1; otherwise they vary
    along the ladder and do not.
    """
    step = 0.02
    sides = [log_flops - step, log_flops + step]
    log_n = [minimise(log_loss, ladder, side) for side in sides]
    log_d = [side - ladder.log_cost(n) for side, n in zip(sides, log_n, strict=True)]
    return (log_n[1] - log_n[0]) / (2 * step), (log_d[1] - log_d[0]) / (2 * step)
