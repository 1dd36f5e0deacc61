# SPDX-License-Identifier: Apache-2.0
"""How wide a forecast has to be, by its own budgets: each in turn plays the new one.

The law is fitted without one budget, and asked for the run of that budget whose tokens per
parameter are nearest to those of the run to forecast. The score is its absolute error in units of
the half-width that the bootstrap then gave it, so that a far forecast may err more than a near one.

Conformal: of n scores the largest holds the next one with probability n / (n + 1), where the new
budget is one like the others: no level above that is supported (Vovk et al. 2005; the scale: Lei et
al. 2018, arXiv:1604.04173, section 5.2). Birge's ratio: scores of a law that has the right form are
about 1; where they are larger, the interval of any level is too narrow by their root mean square.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from scaling.answers.loss_forecast import average_loss, loss_quantiles
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import Fit, FitError
from scaling.intervals import Interval
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs

# Of one standard deviation, were the draws normal: far tails of few draws say nothing.
_CENTRAL = (0.1587, 0.8413)
# Each is left out by fits of its own.
_MOST_GROUPS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Conformal:
    """A forecast loss with the interval that the budgets support.

    Fields:
      value: as `average_loss` gives it, nats per token. interval: about it.
      level: n / (n + 1) of n budgets that could be left out. scores: of each budget, by its FLOPs.
    """

    value: float
    interval: Interval
    level: float
    scores: Mapping[float, float]

    @property
    def birge_ratio(self) -> float:
        """Root mean square of the scores, and at least 1 (Birge 1932, doi:10.1103/PhysRev.40.207;
        the Particle Data Group's scale factor)."""
        return max(1.0, float(np.sqrt(np.mean(np.square(list(self.scores.values()))))))

    def widened(self, loss: float) -> float:
        """A quantile of `average_loss`, further from the forecast by Birge's ratio."""
        return self.value + self.birge_ratio * (loss - self.value)


LeftOut = Mapping[float, tuple[Runs, Sequence[Fit]]]
"""By budget its runs, and the surfaces fitted without them."""


def leave_out(fits: Sequence[Fit], *, n_bootstrap: int = 100, seed: int = 0) -> LeftOut:
    """The forms of the fits, fitted again without each budget in turn, where they have a fit then.

    More than 8 budgets, as of a table whose runs all have FLOPs of their own, are left out in 8
    groups of neighbours.

    Args:
      fits: surfaces of one table, one per form, fitted to all budgets.
      n_bootstrap: replicates of each fit without a budget. seed: of them.

    Raises:
      FitError: if fewer than two budgets can be left out.
    """
    runs, left_out = fits[0].fitted_runs, {}
    for budget, is_out in _groups(runs).items():
        rest = runs.select(~is_out)
        with contextlib.suppress(FitError):  # Of a form without this budget.
            # A width takes no more starts: what a replicate misses of the minimum is in its tails.
            again = [
                fit_surface(rest, fit.law, n_bootstrap=n_bootstrap, replicate_starts=1, seed=seed)
                for fit in fits
            ]
            left_out[budget] = (runs.select(is_out), again)
    if len(left_out) < 2:
        raise FitError(
            f"a conformal interval leaves out one budget after another: {len(left_out)} of "
            f"{len(runs.budgets)} can be, and it takes 2"
        )
    return left_out


def conformal_loss(
    fits: Sequence[Fit], left_out: LeftOut, n_params: float, n_tokens: float
) -> Conformal:
    """The forecast of `average_loss` with an interval by leaving out one budget after another.

    Args:
      fits: as in `leave_out`. left_out: what it gives for them.
      n_params, n_tokens: of the run, in the fits' parameter convention.

    Raises:
      ValueError: as `average_loss`.
    """
    value, half = _told(fits, n_params, n_tokens)
    scores = {}
    for budget, (runs, rest) in left_out.items():
        i = _nearest(runs, n_tokens / n_params)
        expected, width = _told(rest, float(runs.n_params[i]), float(runs.n_tokens[i]))
        scores[budget] = abs(float(runs.loss_nats[i]) - expected) / width
    reach = max(scores.values()) * half
    return Conformal(
        value=value,
        interval=Interval(lower=value - reach, upper=value + reach),
        level=len(scores) / (len(scores) + 1),
        scores=scores,
    )


def _groups(runs: Runs) -> dict[float, Bool[Array, " n"]]:
    """Mask of the runs of every budget; of many budgets neighbours are one, by the largest."""
    groups = np.array_split(runs.budgets, min(len(runs.budgets), _MOST_GROUPS))
    return {float(group[-1]): np.isin(runs.budget, group) for group in groups}


def _told(fits: Sequence[Fit], n_params: float, n_tokens: float) -> tuple[float, float]:
    """The forecast, and half of the central two thirds of its draws."""
    lower, upper = loss_quantiles(fits, n_params, n_tokens, _CENTRAL)
    return average_loss(fits, n_params, n_tokens).value, float(upper - lower) / 2


def _nearest(runs: Runs, tokens_per_param: float) -> int:
    """The run whose ratio is nearest; of several seeds the first."""
    return int(np.argmin(np.abs(np.log(runs.n_tokens / runs.n_params / tokens_per_param))))
