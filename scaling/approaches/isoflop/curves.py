# SPDX-License-Identifier: Apache-2.0
"""Curves of loss against size at one budget, and where they are lowest.

"parabola", "cubic", "quartic": least squares on the loss in nats over ln size (Hoffmann et al.
2022, sec. 3.2; the higher degrees bend where the true curve is not symmetric). "akima":
interpolation of ln loss on ln size through the mean of each size (Akima 1970; used by Porian et al.
2024); it has no lack of fit, and so knows nothing of noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from scaling.approaches.isoflop.law import JOINT, excess
from scaling.tables.arrays import Array

DEGREES = {"parabola": 2, "cubic": 3, "quartic": 4}
CURVES = (*DEGREES, "akima")
# Where D* comes from: along the runs' size ladder, or from a curve over ln D.
TOKENS = ("ladder", "curve")
_AKIMA_SIZES = 5
# Points of the search for the lowest point of a cubic or quartic, before Newton steps.
_SEARCH = 129
# Condition of the normal equations above which a resample holds too few sizes.
_POOR = 1e10


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Loss against x = ln size - centre at one budget.

    Fields:
      x: of the runs, [n]. coefficients: ascending powers of x; for akima the knots followed by
        ln loss at them.
      minimum: x where it is lowest. A parabola's may lie outside the sizes, the others have one
        between the two end sizes; NaN where there is none.
    """

    kind: str
    centre: float
    x: Float[Array, " n"]
    coefficients: Float[Array, " P"]
    minimum: float

    @property
    def sizes(self) -> Float[Array, " K"]:
        """Distinct x, ascending."""
        return np.unique(self.x)

    @property
    def n_parameters(self) -> int:
        return len(self.sizes) if self.kind == "akima" else len(self.coefficients)

    @property
    def stored(self) -> tuple[float, ...]:
        """What `value_at` draws it from."""
        return (self.centre, *(float(c) for c in self.coefficients))

    def loss(self, x: Array) -> Array:
        """Loss in nats at x."""
        return value_at(self.kind, self.stored, np.asarray(x, float) + self.centre)

    def size(self, x: float | Array) -> Array:
        return np.exp(self.centre + np.asarray(x))

    def basis(self, x: Array, derivative: int = 0) -> Array:
        """Derivative of the powers of x by x, [..., degree + 1]; polynomials only."""
        powers = np.arange(len(self.coefficients))
        factor = np.ones(len(powers))
        for k in range(derivative):
            factor = factor * (powers - k)
        rest = np.maximum(powers - derivative, 0)
        return factor * np.asarray(x, float)[..., None] ** rest


def require_curve(kind: str) -> None:
    """Raises ValueError for a curve that there is not."""
    if kind not in CURVES:
        raise ValueError(f"unknown curve {kind!r}; choose one of {', '.join(CURVES)}")


def fewest(kind: str, *, exact: bool) -> tuple[int, int]:
    """Sizes and runs that a curve needs: with `exact` just to exist, else to show a misfit."""
    if kind == "akima":
        return _AKIMA_SIZES, _AKIMA_SIZES
    n = DEGREES[kind] + 1
    return (n, n) if exact else (n + 1, n + 2)


def fit_curve(kind: str, size: Float[Array, " n"], loss: Float[Array, " n"]) -> Curve:
    """The curve through the runs of one budget.

    Args:
      kind: one of CURVES. size: parameters or tokens, [n]. loss: nats per token, [n].
    """
    log_size = np.log(size)
    centre = float(log_size.mean())
    x = log_size - centre
    bare = Curve(kind=kind, centre=centre, x=x, coefficients=np.zeros(0), minimum=np.nan)
    coefficients = _akima_knots(x, loss) if kind == "akima" else _solved(kind, x, loss[None])[0]
    lowest, _ = minima(bare, loss[None], np.ones((1, len(x))), edges="open")
    return Curve(kind=kind, centre=centre, x=x, coefficients=coefficients, minimum=float(lowest[0]))


def value_at(kind: str, stored: Sequence[float], log_size: Array) -> Array:
    """Loss of a stored curve at ln size; NaN beyond the end sizes of an Akima curve.

    Stored are, of a polynomial, (centre, c0, c1, ...) of c0 + c1 x + ..., x = ln size - centre; of
    a joint fit ln N*, L*, the curvature, a and g of `isoflop_law`.
    """
    if kind == JOINT:
        place, minimum, kappa, a, g = stored
        return minimum + kappa * excess(np.asarray(log_size, float) - place, a, g)
    centre, *coefficients = stored
    x = np.asarray(log_size, float) - centre
    if kind != "akima":
        return np.polyval(coefficients[::-1], x)
    from scipy.interpolate import Akima1DInterpolator

    knots, values = np.split(np.array(coefficients), 2)
    return np.exp(Akima1DInterpolator(knots, values)(np.clip(x, knots[0], knots[-1])))


def minima(
    curve: Curve, targets: Float[Array, "R n"], weights: Real[Array, "R n"], *, edges: str
) -> tuple[Float[Array, " R"], Float[Array, " R"]]:
    """x and loss of the lowest point, [R] each, of the curve fitted to replicates of its data.

    Args:
      targets: losses [R, n]. weights: how often each run counts, [R, n].
      edges: what becomes of replicates that are lowest at an end size: "lost" gives NaN, "kept"
        that size, "open" NaN, but for a parabola its vertex wherever it lies.
    """
    if curve.kind == "akima":
        return _akima_minima(curve.x, targets, weights, edges)
    coefficients = _solved(curve.kind, curve.x, targets, weights)
    if curve.kind == "parabola":
        return _vertices(coefficients, curve.x, edges)
    return _searched(coefficients, curve.x, edges)


def _solved(kind: str, x: Array, targets: Array, weights: Array | None = None) -> Array:
    """Weighted least squares [R, degree + 1]; NaN where a resample has too few sizes."""
    half = max(float(np.ptp(x)) / 2, 1e-12)
    design = np.vander(x / half, DEGREES[kind] + 1, increasing=True)
    scale = half ** np.arange(design.shape[1])
    if weights is None:
        return np.linalg.lstsq(design, targets.T, rcond=None)[0].T / scale
    normal = np.einsum("rn,ni,nj->rij", weights, design, design)
    right = np.einsum("rn,ni,rn->ri", weights, design, targets)
    is_poor = np.linalg.cond(normal) > _POOR if len(normal) else np.zeros(0, bool)
    normal[is_poor] = np.eye(design.shape[1])
    solved = np.linalg.solve(normal, right[..., None])[..., 0]
    solved[is_poor] = np.nan
    return solved / scale


def _vertices(coefficients: Array, x: Array, edges: str) -> tuple[Array, Array]:
    c0, c1, c2 = coefficients.T
    low, high = x.min(), x.max()
    with np.errstate(invalid="ignore", divide="ignore"):
        vertex = np.where(c2 > 0, -c1 / (2.0 * c2), np.nan)
        if edges == "kept":
            best_end = np.where(c1 + c2 * (low + high) < 0, high, low)
            vertex = np.clip(np.where(c2 > 0, vertex, best_end), low, high)
            vertex = np.where(np.isfinite(c2), vertex, np.nan)
        elif edges == "lost":
            vertex = np.where((vertex >= low) & (vertex <= high), vertex, np.nan)
        return vertex, c0 + vertex * (c1 + vertex * c2)


def _searched(coefficients: Array, x: Array, edges: str) -> tuple[Array, Array]:
    """Lowest point between the end sizes: the best of a grid, then Newton steps."""
    grid = np.linspace(x.min(), x.max(), _SEARCH)
    values = coefficients @ np.vander(grid, coefficients.shape[1], increasing=True).T
    is_bad = ~np.all(np.isfinite(values), axis=1)
    best = np.argmin(np.where(is_bad[:, None], 0.0, values), axis=1)
    is_edge = (best == 0) | (best == _SEARCH - 1)
    point = grid[best]
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, _SEARCH - 1)]
    powers = np.arange(coefficients.shape[1])
    for _ in range(5):
        first = np.sum(coefficients[:, 1:] * powers[1:] * point[:, None] ** powers[:-1], axis=1)
        bend = powers[2:] * powers[1:-1]
        second = np.sum(coefficients[:, 2:] * bend * point[:, None] ** powers[:-2], axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            step = np.where(second > 0, first / second, 0.0)
        point = np.where(is_edge, point, np.clip(point - step, low, high))
    keep = ~is_bad & (~is_edge | (edges == "kept"))
    loss = np.sum(coefficients * point[:, None] ** powers, axis=1)
    return np.where(keep, point, np.nan), np.where(keep, loss, np.nan)


def _akima_knots(x: Array, loss: Array) -> Array:
    knots, values = _size_means(x, np.log(loss)[None], np.ones((1, len(x))))
    return np.concatenate([knots, values[0]])


def _size_means(x: Array, values: Array, weights: Array) -> tuple[Array, Array]:
    """Distinct x [K] and weighted means [R, K] there; NaN where a resample lacks a size."""
    knots, label = np.unique(x, return_inverse=True)
    member = (label.reshape(-1)[:, None] == np.arange(len(knots))).astype(float)
    total = weights @ member
    with np.errstate(invalid="ignore", divide="ignore"):
        return knots, (weights * values) @ member / total


def _akima_minima(x: Array, targets: Array, weights: Array, edges: str) -> tuple[Array, Array]:
    with np.errstate(invalid="ignore"):
        knots, values = _size_means(x, np.log(targets), weights)
    good = np.all(np.isfinite(values), axis=1)
    point, loss = np.full(len(values), np.nan), np.full(len(values), np.nan)
    if good.any():
        point[good], loss[good] = _lowest_of_cubics(knots, values[good])
    if edges != "kept":
        is_edge = (point <= knots[0]) | (point >= knots[-1])
        point, loss = np.where(is_edge, np.nan, point), np.where(is_edge, np.nan, loss)
    return point, np.exp(loss)


def _lowest_of_cubics(knots: Array, values: Array) -> tuple[Array, Array]:
    """Lowest point of the Akima interpolants of values [R, K]: a knot, or a stationary point."""
    from scipy.interpolate import Akima1DInterpolator

    cubics = Akima1DInterpolator(knots, values.T)
    c3, c2, c1, c0 = cubics.c
    width = np.diff(knots)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        # The root of c1 + 2 c2 t + 3 c3 t^2 with upward curvature, in the form that stays exact
        # as c3 goes to nothing.
        root = np.sqrt(c2**2 - 3.0 * c3 * c1)
        t = -c1 / (c2 + root)
        inside = (t > 0) & (t < width) & (c2 + 3.0 * c3 * t >= 0)
        between = np.where(inside, c0 + t * (c1 + t * (c2 + t * c3)), np.inf)
    everywhere = np.concatenate([values.T, between])
    points = np.concatenate([np.broadcast_to(knots[:, None], values.T.shape), knots[:-1, None] + t])
    best = np.argmin(everywhere, axis=0)[None]
    found = (np.take_along_axis(v, best, axis=0)[0] for v in (points, everywhere))
    point, loss = found
    return point, loss
