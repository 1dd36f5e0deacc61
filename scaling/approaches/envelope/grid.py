# SPDX-License-Identifier: Apache-2.0
"""Training curves on common FLOP values, and which of them is lowest where."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from scaling.tables.arrays import Array
from scaling.tables.runs import Curves, Runs
from scaling.uncertainty.groups import configurations

SELECT = ("lowest", "hull", "final_hull")
# The share of a run's own tokens after which its learning rate counts as decayed.
_ANNEALED = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Smoothed log loss of every run on common FLOP values.

    Fields:
      log_loss: [n, G]; NaN where a run has no value, infinite where it would not be compared.
      members: whether a run repeats a configuration, [K, n].
      n_params, n_tokens, cost (log flops_per_token): of the configurations, [K].
    """

    log_flops: Float[Array, " G"]
    log_loss: Float[Array, "n G"]
    members: Float[Array, "K n"]
    n_params: Float[Array, " K"]
    n_tokens: Float[Array, " K"]
    cost: Float[Array, " K"]

    def mean(self, weights: Float[Array, " n"] | None = None) -> Float[Array, "K G"]:
        """Log loss of each configuration [K, G], runs counted `weights` [n] times.

        A value needs all of its runs: a mean over fewer would jump where one of them ends.
        """
        lines = []
        for row in self.members if weights is None else self.members * weights:
            is_drawn = row > 0
            if not is_drawn.any():
                lines.append(np.full(len(self.log_flops), np.nan))
                continue
            share = row[is_drawn] / row.sum()
            lines.append(share @ self.log_loss[is_drawn])
        return np.stack(lines)

    def is_annealed(self, chosen: Int[Array, " G"]) -> Bool[Array, " G"]:
        """Whether the curve chosen at each FLOP value is at the end of its run there, [G]."""
        n_tokens = np.exp(self.log_flops - self.cost[chosen])
        return n_tokens >= _ANNEALED * self.n_tokens[chosen]


def curve_grid(runs: Runs, curves: Curves, n_points: int, smoothing: float) -> Grid:
    """Curves interpolated at n_points FLOP values, equally spaced in log C."""
    costs = zip(runs.run_id.tolist(), runs.flops_per_token.tolist(), strict=True)
    lines = [_smoothed(curves.of(run_id), cost, smoothing) for run_id, cost in costs]
    low, high = min(x[0] for x, _ in lines), max(x[-1] for x, _ in lines)
    log_flops = np.linspace(low, high, n_points)
    values = [np.interp(log_flops, x, y, left=np.nan, right=np.nan) for x, y in lines]
    return _grid(runs, log_flops, np.stack(values))


def final_grid(runs: Runs) -> Grid:
    """The final point of every configuration alone; all sizes count as present everywhere."""
    labels = configurations(runs)
    # Repeats differ by the rounding of their step counts and share one FLOP value.
    log_c = np.bincount(labels, np.log(runs.flops)) / np.bincount(labels)
    log_flops = np.unique(log_c)
    values = np.full((len(runs), len(log_flops)), np.inf)
    values[np.arange(len(runs)), np.searchsorted(log_flops, log_c[labels])] = np.log(runs.loss_nats)
    return _grid(runs, log_flops, values)


def _grid(runs: Runs, log_flops: Array, log_loss: Array) -> Grid:
    labels = configurations(runs)
    first = np.unique(labels, return_index=True)[1]
    return Grid(
        log_flops=log_flops,
        log_loss=log_loss,
        members=(labels == np.arange(len(first))[:, None]).astype(float),
        n_params=runs.n_params[first],
        n_tokens=runs.n_tokens[first],
        cost=np.log(runs.flops_per_token[first]),
    )


def _smoothed(curve: Curves, cost: float, smoothing: float) -> tuple[Array, Array]:
    """log C and smoothed log loss of one curve: a local line through a Gaussian window."""
    keep = (curve.n_tokens > 0) & np.isfinite(curve.loss_nats)
    x, y = np.log(curve.n_tokens[keep] * cost), np.log(curve.loss_nats[keep])
    x, index = np.unique(x, return_index=True)
    y = y[index]
    if smoothing <= 0 or len(x) < 3:
        return x, y
    distance = np.subtract.outer(np.arange(len(x)), np.arange(len(x)))
    w = np.exp(-0.5 * (distance / smoothing) ** 2)
    w /= w.sum(axis=1, keepdims=True)
    dx = x - (w @ x)[:, None]
    slope = np.sum(w * dx * y, axis=1) / np.maximum(np.sum(w * dx**2, axis=1), 1e-300)
    return x, w @ y + slope * (x - w @ x)


def winners(
    grid: Grid, log_loss: Float[Array, "K G"], *, is_hull: bool
) -> tuple[Int[Array, " G"], Bool[Array, " G"]]:
    """Index of the lowest configuration at each FLOP value, and which values are used.

    Used are those where smaller and larger sizes are present; with is_hull only the corners of
    the lower convex hull of ln loss over ln C, between its first and its lowest one. (The hull of
    all points is that of the envelope.)
    """
    present = ~np.isnan(log_loss)
    chosen = np.argmin(np.where(present, log_loss, np.inf), axis=0)
    smallest = np.min(np.where(present, grid.n_params[:, None], np.inf), axis=0)
    largest = np.max(np.where(present, grid.n_params[:, None], -np.inf), axis=0)
    size = grid.n_params[chosen]
    used = present.any(axis=0) & (size > smallest) & (size < largest)
    if is_hull:
        lowest = np.min(np.where(present, log_loss, np.inf), axis=0)
        corners = np.flatnonzero(lower_hull(grid.log_flops, lowest))
        # The end points are corners whatever their loss, and so are points after the lowest one.
        falling = corners[: np.argmin(lowest[corners]) + 1]
        used &= np.isin(np.arange(len(used)), falling[1:-1])
    return chosen, used


def lower_hull(x: Float[Array, " G"], y: Float[Array, " G"]) -> Bool[Array, " G"]:
    """Mask of the corners of the lower convex hull of points with ascending x (Andrew 1979).

    Points that are not finite are never corners.
    """
    corners: list[int] = []
    for i in np.flatnonzero(np.isfinite(y)):
        while len(corners) > 1 and _turns_up(x, y, corners[-2], corners[-1], int(i)) <= 0:
            corners.pop()
        corners.append(int(i))
    mask = np.zeros(len(x), bool)
    mask[corners] = True
    return mask


def _turns_up(x: Array, y: Array, i: int, j: int, k: int) -> float:
    return float((x[j] - x[i]) * (y[k] - y[i]) - (y[j] - y[i]) * (x[k] - x[i]))
