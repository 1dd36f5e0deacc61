# SPDX-License-Identifier: Apache-2.0
"""What one isoFLOP curve says of its minimum: intervals, and whether it may be used.

The minimum v of a fitted polynomial p solves p'(v) = 0, and p'(v) is linear in the coefficients.
All v at which p'(v) = 0 is not rejected by Student's t are plausible; for a parabola that is
Fieller's interval of the ratio -c1/(2 c2) (Fieller 1954). Unlike percentiles of replicates it
stays honest where the curvature is hardly known: it then reaches the end sizes of the grid.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.approaches.isoflop.curves import Curve
from scaling.intervals import UNKNOWN, Interval
from scaling.tables.arrays import Array

# With so many degrees of freedom a budget speaks for itself, so that an outlier elsewhere does
# not widen its interval; with fewer, the scatter of all budgets is pooled.
OWN_SCATTER_DOF = 8
_GRID = 401


@dataclass(frozen=True, slots=True, kw_only=True)
class Minimum:
    """Intervals of the minimum of one curve, in size and in nats.

    is_open: (below, above): the size interval reaches the end of the grid, and the minimum may
    lie beyond it.
    """

    size: Interval
    loss: Interval
    curvature: Interval
    is_open: tuple[bool, bool]

    @property
    def sentence(self) -> str:
        """On what is open; empty when nothing is."""
        sides = [s for s, o in zip(("smallest", "largest"), self.is_open, strict=True) if o]
        return f"the interval is open beyond the {' and the '.join(sides)} size" if sides else ""


NOT_SEEN = Minimum(size=UNKNOWN, loss=UNKNOWN, curvature=UNKNOWN, is_open=(False, False))


def scatters(
    curves: Sequence[Curve], losses: Sequence[Array], *, pooled_share: float = 1.0
) -> list[tuple[float, float]]:
    """Standard deviation in nats of one run about each curve, and its degrees of freedom.

    Repeats of one size share its lack of fit, so sizes count, not runs: with m_k repeats,
    sum_k m_k (mean residual)_k^2 / (sizes - parameters). NaN and 0 where nothing is left over.

    pooled_share: of the degrees of freedom of all budgets together, how many count: budgets whose
    runs share noise tell the same scatter again.
    """
    squares, spare = [], []
    for curve, loss in zip(curves, losses, strict=True):
        sizes, label = np.unique(curve.x, return_inverse=True)
        counts = np.bincount(label.reshape(-1))
        means = np.bincount(label.reshape(-1), loss - curve.loss(curve.x)) / counts
        squares.append(float(np.sum(counts * means**2)))
        spare.append(len(sizes) - curve.n_parameters)
    pooled = (sum(squares), sum(spare), pooled_share * sum(spare))
    chosen = [
        (s, d, float(d)) if d >= OWN_SCATTER_DOF else pooled
        for s, d in zip(squares, spare, strict=True)
    ]
    return [(float(np.sqrt(s / d)), dof) if d > 0 else (np.nan, 0.0) for s, d, dof in chosen]


def polynomial_minimum(
    curve: Curve, scatter: tuple[float, float], level: float, *, is_one: bool = False
) -> Minimum:
    """Student-t intervals of the minimum of a polynomial.

    Size: the hull of the plausible minima between the end sizes (p' = 0 not rejected, p'' < 0
    not shown). Loss: all values that some polynomial with such a minimum takes there without its
    squares being t^2 worse (the profile; delta method would be too narrow where the curve is
    flat). Curvature: p'' at the minimum.

    Args:
      is_one: only minima that plausible ones join to the fitted one: the curve is known to have
        one minimum, and where a cubic levels off far from it there is none.
    """
    if not scatter[1]:
        return NOT_SEEN
    covariance = _covariance(curve, scatter, level)
    is_plausible, grid = _plausible(curve, covariance)
    is_plausible = _joined(is_plausible, grid, curve.minimum) if is_one else is_plausible
    ends, is_open = _hull(is_plausible, grid)
    bend, of_bend = _derivative(curve, np.array(curve.minimum), 2, covariance)
    width = np.sqrt(of_bend)
    return Minimum(
        size=Interval(lower=float(curve.size(ends[0])), upper=float(curve.size(ends[1]))),
        loss=_profile(curve, curve.basis, grid[is_plausible(grid)], covariance),
        curvature=Interval(lower=float(bend - width), upper=float(bend + width)),
        is_open=is_open,
    )


def loss_above_minimum(
    curve: Curve, x: float, scatter: tuple[float, float], level: float
) -> Interval:
    """Interval of the loss at x over that of the one minimum, in nats: its profile.

    It reaches 0 where x is itself a plausible minimum.
    """
    if not scatter[1]:
        return UNKNOWN
    covariance = _covariance(curve, scatter, level)
    is_plausible, grid = _plausible(curve, covariance)
    is_plausible = _joined(is_plausible, grid, curve.minimum)
    grid = np.append(grid, x)

    def difference(minimum: Array) -> Array:
        return curve.basis(np.array(x)) - curve.basis(minimum)

    found = _profile(curve, difference, grid[is_plausible(grid)], covariance)
    return Interval(lower=max(found.lower, 0.0), upper=found.upper)


def _covariance(curve: Curve, scatter: tuple[float, float], level: float) -> Array:
    """Of the coefficients, in units of t^2."""
    from scipy.special import stdtrit

    sd, dof = scatter
    half = float(stdtrit(dof, (1 + level) / 2)) * sd
    return np.linalg.pinv(curve.basis(curve.x).T @ curve.basis(curve.x)) * half**2


def _plausible(curve: Curve, covariance: Array) -> tuple[Callable[[Array], Array], Array]:
    """Whether the minimum may lie at x, and a grid of such x with the fitted minimum in it."""

    def is_plausible(x: Array) -> Array:
        (slope, of_slope), (bend, of_bend) = (_derivative(curve, x, k, covariance) for k in (1, 2))
        return (slope**2 <= of_slope) & (bend >= -np.sqrt(of_bend))

    low, high = float(curve.x.min()), float(curve.x.max())
    grid = np.linspace(low, high, _GRID)
    if low < curve.minimum < high:
        grid = np.sort(np.append(grid, curve.minimum))
    return is_plausible, grid


def _joined(
    is_plausible: Callable[[Array], Array], grid: Array, minimum: float
) -> Callable[[Array], Array]:
    """Plausible, and no implausible point of the grid between x and the minimum."""
    outside = grid[~is_plausible(grid)]
    low = outside[outside < minimum].max(initial=-np.inf)
    high = outside[outside > minimum].min(initial=np.inf)
    return lambda x: is_plausible(x) & (low <= x) & (x <= high)


def _derivative(curve: Curve, x: Array, order: int, covariance: Array) -> tuple[Array, Array]:
    """A derivative of the polynomial at x and its variance."""
    row = curve.basis(x, order)
    return row @ curve.coefficients, np.maximum(np.sum(row @ covariance * row, axis=-1), 0.0)


def _profile(curve: Curve, of: Callable[[Array], Array], x: Array, covariance: Array) -> Interval:
    """Values of ``of(x)`` times the coefficients when the minimum is at one of x.

    With the minimum at x the value there is q - (M12/M22) p' give or take
    sqrt((1 - p'^2/M22) (M11 - M12^2/M22)), M the covariance of (q, p'), here in units of t^2.
    """
    if not len(x):
        return UNKNOWN
    row, (slope, m22) = of(x), _derivative(curve, x, 1, covariance)
    value, m11 = row @ curve.coefficients, np.sum(row @ covariance * row, axis=-1)
    m12 = np.sum(row @ covariance * curve.basis(x, 1), axis=-1)
    share = slope / np.maximum(m22, 1e-300)
    # Rounding error of noise-free data may leave both factors just below zero.
    room = np.maximum(1.0 - slope * share, 0.0) * np.maximum(m11 - m12**2 / (m22 + 1e-300), 0.0)
    middle = value - m12 * share
    return Interval(
        lower=float(np.min(middle - np.sqrt(room))), upper=float(np.max(middle + np.sqrt(room)))
    )


def _hull(
    is_plausible: Callable[[Array], Array], grid: Array
) -> tuple[tuple[float, float], tuple[bool, bool]]:
    """First and last plausible point, closed in on by bisection, and which lie at an end."""
    inside = np.flatnonzero(is_plausible(grid))
    if not len(inside):
        return (np.nan, np.nan), (False, False)
    first, last = int(inside[0]), int(inside[-1])
    lower = grid[0] if first == 0 else _border(is_plausible, grid[first - 1], grid[first])
    upper = grid[-1] if last == len(grid) - 1 else _border(is_plausible, grid[last + 1], grid[last])
    return (float(lower), float(upper)), (first == 0, last == len(grid) - 1)


def _border(is_plausible: Callable[[Array], Array], outside: float, inside: float) -> float:
    """Where plausibility begins, by six rounds of 32 steps each."""
    for _ in range(6):
        points = np.linspace(outside, inside, 33)
        first = int(np.argmax(is_plausible(points)[1:])) + 1
        outside, inside = float(points[first - 1]), float(points[first])
    return inside


def drawn_minimum(
    curve: Curve, points: Float[Array, " R"], losses: Float[Array, " R"], level: float
) -> Minimum:
    """Percentile intervals from replicates whose lost minima count as the end size they chose.

    Args:
      points, losses: x and loss of the lowest point of each replicate, [R], with edges "kept".
    """
    x, loss = Interval.of(points, level), Interval.of(losses, level)
    low, high = float(curve.x.min()), float(curve.x.max())
    return Minimum(
        size=Interval(lower=float(curve.size(x.lower)), upper=float(curve.size(x.upper))),
        loss=loss,
        curvature=UNKNOWN,
        is_open=(bool(x.lower <= low), bool(x.upper >= high)),
    )


def why_not(curve: Curve, found: Minimum, level: float, *, accept: str, what: str) -> str:
    """Why a budget cannot be used; empty when it can.

    Args:
      accept: "resolved" asks for a curvature above 0 with its whole interval and a minimum at
        least one size inside the grid; "any" for a minimum alone.
      what: "parameters" or "tokens".
    """
    if not np.isfinite(curve.minimum):
        return _no_minimum(curve, what)
    if accept == "any":
        return ""
    bend = found.curvature
    if bend.lower <= 0:
        return (
            f"the curvature is not resolved from 0 ({bend.lower:.3g} to {bend.upper:.3g} at "
            f"{100 * level:.0f} %); add sizes on both sides of the best, or seeds"
        )
    sizes = curve.sizes
    if sizes[1] <= curve.minimum <= sizes[-2]:
        return ""
    side = "largest" if curve.minimum > sizes[-2] else "smallest"
    low, high = curve.size(sizes[[0, -1]])
    return (
        f"no interior minimum: the vertex, {curve.size(curve.minimum):.3g} {what}, is not one size "
        f"inside the grid {low:.3g} to {high:.3g}; add sizes beyond the {side}"
    )


def _no_minimum(curve: Curve, what: str) -> str:
    if curve.kind == "parabola":
        return f"the parabola opens downward (curvature {2 * curve.coefficients[2]:.3g})"
    ends = curve.loss(curve.sizes[[0, -1]])
    side = "largest" if ends[1] < ends[0] else "smallest"
    low, high = curve.size(curve.sizes[[0, -1]])
    return (
        f"no interior minimum: the {curve.kind} curve is lowest at the {side} of {low:.3g} to "
        f"{high:.3g} {what}; add sizes beyond it"
    )
