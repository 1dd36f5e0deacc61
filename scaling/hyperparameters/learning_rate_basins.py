# SPDX-License-Identifier: Apache-2.0
"""Basins of loss over the learning rate: where each is lowest, and what another rate costs.

A basin is a cubic over ln rate through the rates about the lowest, by the estimator of isoFLOP
curves and with its Student-t intervals. Basins are steeper towards small rates than towards large
ones, and flatten out far from their minimum: intervals of a parabola, and of a quartic through all
rates, hold the best rate less often (results/benchmarks/notes/intervals.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.approaches.isoflop.curves import Curve, fit_curve
from scaling.approaches.isoflop.intervals import loss_above_minimum, polynomial_minimum, scatters
from scaling.intervals import UNKNOWN, Interval
from scaling.tables.arrays import Array

# Rates that a curve goes through: the lowest and two on each side, where they are.
N_RATES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Basin:
    """Loss against learning rate, for one network and run length.

    Fields:
      rates: factors on the rate in question, ascending, [n]. losses: nats, mean over seeds, [n];
        NaN where a run diverged or is missing.
      curve: the cubic; None where the rates do not enclose a minimum, for the ``reason``.
      best, best_interval: factor of the lowest loss, best_loss, in nats. is_open: whether the
        interval ends (below, above) because the curve does.
      cost_nats, cost_interval: loss at factor 1 above the lowest; NaN where it has no loss. Without
        a curve it counts from the lowest loss that was met, and is the least that it can be. The
        interval is unknown where factor 1 lies beyond the curve.
    """

    rates: Float[Array, " n"]
    losses: Float[Array, " n"]
    curve: Curve | None
    best: float
    best_interval: Interval
    is_open: tuple[bool, bool]
    best_loss: float
    cost_nats: float
    cost_interval: Interval
    reason: str


def fit_basins(sweeps: Sequence[tuple[Array, Array]], *, level: float = 0.95) -> list[Basin]:
    """One basin per sweep; their scatter about the curves is pooled.

    Args:
      sweeps: (rates [n], losses in nats [seeds, n]) with rates ascending and 1 among them. The
        same seeds at every rate: what a seed adds to all of them then moves no minimum. Other
        noise is taken as each run's own (runs of different rates are no branches of one trunk).
    """
    means = [(rates, losses.mean(axis=0)) for rates, losses in sweeps]
    fitted = [_fit(*mean) for mean in means]
    curves = {i: curve for i, (curve, _) in enumerate(fitted) if curve is not None}
    heights = [means[i][1][_near(means[i][1])] for i in curves]
    scatter = scatters(list(curves.values()), heights) if curves else []
    found = {
        i: _enclosed(*means[i], curve, spread, level)
        for (i, curve), spread in zip(curves.items(), scatter, strict=True)
    }
    return [
        found[i] if i in found else _open(*mean, reason)
        for i, (mean, (_, reason)) in enumerate(zip(means, fitted, strict=True))
    ]


def _near(losses: Array) -> Array:
    """Rows of the lowest loss and of its neighbours that have one."""
    rows = np.flatnonzero(np.isfinite(losses))
    lowest = int(np.argmin(losses[rows])) if len(rows) else 0
    first = min(max(lowest - N_RATES // 2, 0), max(len(rows) - N_RATES, 0))
    return rows[first : first + N_RATES]


def _fit(rates: Array, losses: Array) -> tuple[Curve | None, str]:
    """The curve, or why there is none."""
    finite = np.flatnonzero(np.isfinite(losses))
    if len(finite) < N_RATES:
        return None, f"{len(finite)} rates have a loss, {N_RATES} are needed"
    lowest = finite[np.argmin(losses[finite])]
    for end, side in ((finite[0], "smaller"), (finite[-1], "larger")):
        if lowest == end:
            return None, f"the loss is lowest at the end, factor {rates[end]:g}: try {side} rates"
    rows = _near(losses)
    curve = fit_curve("cubic", rates[rows], losses[rows])
    if not np.isfinite(curve.minimum):
        low, high = rates[rows[[0, -1]]]
        return None, f"the fitted curve has no minimum between factors {low:g} and {high:g}"
    return curve, ""


def _enclosed(
    rates: Array, losses: Array, curve: Curve, scatter: tuple[float, float], level: float
) -> Basin:
    found = polynomial_minimum(curve, scatter, level, is_one=True)
    best_loss = float(curve.loss(np.array(curve.minimum)))
    loss, interval, at_one = float(losses[rates == 1.0].item()), UNKNOWN, -curve.centre
    if np.isfinite(loss) and curve.x[0] <= at_one <= curve.x[-1]:
        loss = float(curve.loss(np.array(at_one)))
        interval = loss_above_minimum(curve, at_one, scatter, level)
    return Basin(
        rates=rates,
        losses=losses,
        curve=curve,
        best=float(curve.size(curve.minimum)),
        best_interval=found.size,
        is_open=found.is_open,
        best_loss=best_loss,
        cost_nats=loss - best_loss,
        cost_interval=interval,
        reason="",
    )


def _open(rates: Array, losses: Array, reason: str) -> Basin:
    best_loss = float(np.nanmin(losses)) if np.isfinite(losses).any() else np.nan
    return Basin(
        rates=rates,
        losses=losses,
        curve=None,
        best=np.nan,
        best_interval=UNKNOWN,
        is_open=(False, False),
        best_loss=best_loss,
        cost_nats=float(losses[rates == 1.0].item()) - best_loss,
        cost_interval=UNKNOWN,
        reason=reason,
    )
