# SPDX-License-Identifier: Apache-2.0
"""Loss curves of a ladder, normalised: those that are trained alike are one curve.

Of runs near the optimum of their budget, whose schedules are shares of their length, the reducible
loss over its own end, (L(x) - E) / (L(1) - E), is the same function of the share x of the tokens
(supercollapse: Qiu et al. 2025, arXiv:2507.02119; with the ratio of tokens to parameters and the
timescale of weight decay held: Bergsma et al. 2025, arXiv:2509.25087). A run that leaves the bundle
was trained otherwise; and the bundle times the forecast of an end is the forecast of a curve.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from scaling.answers.frontier import frontier
from scaling.answers.loss_forecast import choose_forecaster
from scaling.fit import Fit
from scaling.intervals import Band
from scaling.tables.arrays import Array
from scaling.tables.runs import Curves, Runs

# The ladder: runs whose size is within this factor of the optimum of their budget.
NEAR = 1.5
# A run leaves where it is further off than so many robust standard deviations of the others, and
# than this share: six evaluations of a handful of runs tell no finer.
SDS, LEAST = 5.0, 0.05
FEWEST = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Collapse:
    """Normalised curves of the runs of a ladder.

    Fields:
      floor: E, nats. share: of the tokens of a run, ascending to 1, [X].
      run_id, budget: of the runs, [n]. normalised: reducible loss over its own end, [n, X].
      middle: median of the runs that stay in the bundle. deviation: their standard deviation over
        their mean, [X]; it is 0 at the end, where all are 1.
      offset: of the ends of curves above final losses, nats: they may be measured on other tokens.
      leaving: run_id -> how it leaves the bundle, in words.
    """

    floor: float
    share: Float[Array, " X"]
    run_id: Shaped[Array, " n"]
    budget: Float[Array, " n"]
    normalised: Float[Array, "n X"]
    middle: Float[Array, " X"]
    deviation: Float[Array, " X"]
    offset: float
    leaving: Mapping[str, str]

    @property
    def findings(self) -> tuple[str, ...]:
        """One sentence per run that leaves."""
        return tuple(f"run {run_id} {how}." for run_id, how in self.leaving.items())

    def trajectory(self, ends: Float[Array, " Q"], value: float, level: float) -> Band:
        """The curve of a run of the ladder whose end is forecast: losses at each share, [X].

        Every curve of the bundle times every quantile of the end; the band holds the central share
        `level` of these.

        Args:
          ends: quantiles of the final loss, evenly spaced in probability. value: its forecast.
        """
        stays = ~np.isin(self.run_id, list(self.leaving))
        above = np.asarray(ends)[:, None, None] - self.floor
        drawn = self.floor + self.offset + above * self.normalised[stays][None]
        drawn = drawn.reshape(-1, len(self.share))
        tails = [(1 - level) / 2, (1 + level) / 2]
        lower, upper = np.quantile(drawn, tails, axis=0)
        middle = self.floor + self.offset + (value - self.floor) * self.middle
        return Band(value=middle, lower=lower, upper=upper)


def collapse_near(runs: Runs, curves: Curves, fits: Sequence[Fit]) -> Collapse | None:
    """The ladder about the optima of the surface that forecasts, above its E; None without one."""
    surfaces = [fit for fit in fits if fit.law != "power_laws"]
    if not surfaces:
        return None
    fit = choose_forecaster(surfaces)
    optimum = frontier(fit, runs.budgets).n_params_opt.value
    optima = dict(zip(map(float, runs.budgets), map(float, optimum), strict=True))
    return collapse(runs, curves, optima, floor=fit.parameters.get("E", 0.0))


def collapse(
    runs: Runs, curves: Curves, optima: Mapping[float, float], *, floor: float
) -> Collapse | None:
    """The ladder of a grid; None with fewer than FEWEST runs that have a curve of three
    points, all above the floor.

    Args:
      runs, curves: of the grid.
      optima: N* of each budget.
      floor: irreducible loss, nats; 0 where none is known.
    """
    chosen = [
        i
        for i in np.flatnonzero(runs.is_ok)
        if (best := optima.get(float(runs.budget[i]))) is not None
        and abs(np.log(runs.n_params[i] / best)) <= np.log(NEAR)
        and _can_be_drawn(curves.of(str(runs.run_id[i])), floor)
    ]
    if len(chosen) < FEWEST:
        return None
    own = [curves.of(str(runs.run_id[i])) for i in chosen]
    n_points = min(len(curve) for curve in own)
    share = np.arange(1, n_points + 1) / n_points
    normalised = np.array([_normalised(curve, share, floor) for curve in own])
    offsets = [
        curve.loss_nats[-1] - runs.loss_nats[i] for curve, i in zip(own, chosen, strict=True)
    ]
    leaving = {
        str(runs.run_id[i]): how
        for row, i in enumerate(chosen)
        if (how := _leaves(share, normalised, row))
    }
    run_id = runs.run_id[chosen]
    stays = normalised[~np.isin(run_id, list(leaving))]
    return Collapse(
        floor=floor,
        share=share,
        run_id=run_id,
        budget=runs.budget[chosen],
        normalised=normalised,
        middle=np.median(stays, axis=0),
        deviation=np.std(stays, axis=0, ddof=1) / np.mean(stays, axis=0),
        offset=float(np.median(offsets)),
        leaving=leaving,
    )


def _can_be_drawn(curve: Curves, floor: float) -> bool:
    return len(curve) >= 3 and bool(np.min(curve.loss_nats) > floor)


def _normalised(curve: Curves, share: Array, floor: float) -> Array:
    """Reducible loss over its end, read off at shares of the tokens."""
    at = curve.n_tokens / curve.n_tokens[-1]
    return np.interp(share, at, (curve.loss_nats - floor) / (curve.loss_nats[-1] - floor))


def _leaves(share: Array, normalised: Array, row: int) -> str:
    """How a run differs from the others, in words; "" where it does not."""
    others = np.log(np.delete(normalised, row, axis=0))
    middle = np.median(others, axis=0)
    scatter = 1.4826 * np.median(np.abs(others - middle), axis=0)
    # The end is 1 by definition.
    off = (np.log(normalised[row]) - middle)[:-1]
    is_out = np.abs(off) > np.maximum(SDS * scatter[:-1], LEAST)
    if not is_out.any():
        return ""
    worst = int(np.argmax(np.where(is_out, np.abs(off), 0.0)))
    away = f"leaves the bundle of normalised curves by {np.expm1(off[worst]):+.0%}"
    where = f"{away} at {share[worst]:.0%} of its tokens"
    if off[worst] < 0:
        return f"{where}: its end is too high for its way, as of a rate that hardly falls"
    if is_out.sum() == 1 and worst > 0 and normalised[row, worst] > normalised[row, worst - 1]:
        return f"{where}: a spike"
    return f"{where}: its way is too high for its end, as with another learning rate"
