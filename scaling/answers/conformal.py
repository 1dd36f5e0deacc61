# SPDX-License-Identifier: Apache-2.0
"""Forecast of the loss of one run with a conformal interval: each budget in turn plays the new one.

The law is fitted without one budget, and asked for the run of that budget whose tokens per
parameter are nearest to those of the run to forecast. The score is its absolute error in units of
the half-width that the bootstrap then gave it, so that a far forecast may err more than a near one.
Of n scores the largest holds the next one with probability n / (n + 1), where the new budget is one
like the others: no level above that is supported (Vovk et al. 2005; the scale: Lei et al. 2018,
arXiv:1604.04173, section 5.2).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scaling.answers.loss_forecast import average_loss, loss_quantiles
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import Fit, FitError
from scaling.intervals import Interval
from scaling.tables.runs import Runs

# Of one standard deviation, were the draws normal: far tails of few draws say nothing.
_CENTRAL = (0.1587, 0.8413)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conformal:
    """A forecast loss with the interval that the budgets support.

    Fields:
      value: as `average_loss` gives it, nats per token. interval: about it.
      level: n / (n + 1) of n budgets. scores: of each budget, by its FLOPs.
    """

    value: float
    interval: Interval
    level: float
    scores: Mapping[float, float]


def conformal_loss(
    fits: Sequence[Fit], n_params: float, n_tokens: float, *, n_bootstrap: int = 100, seed: int = 0
) -> Conformal:
    """The forecast of `average_loss` with an interval by leaving out one budget after another.

    Args:
      fits: surfaces of one table, one per form, fitted to all budgets.
      n_params, n_tokens: of the run, in the fits' parameter convention.
      n_bootstrap: replicates of each fit without a budget. seed: of them.

    Raises:
      FitError: if there are fewer than two budgets, or a form has no fit without one of them.
      ValueError: as `average_loss`.
    """
    value, half = _told(fits, n_params, n_tokens)
    runs = fits[0].fitted_runs
    if len(runs.budgets) < 2:
        raise FitError("a conformal interval leaves out one budget after another; here is one")
    scores = {}
    for budget in runs.budgets:
        rest = runs.select(runs.budget != budget)
        # A width takes no more starts: what a replicate misses of the minimum is in its tails.
        left = [
            fit_surface(rest, fit.law, n_bootstrap=n_bootstrap, replicate_starts=1, seed=seed)
            for fit in fits
        ]
        i = _nearest(runs, budget, n_tokens / n_params)
        expected, width = _told(left, float(runs.n_params[i]), float(runs.n_tokens[i]))
        scores[float(budget)] = abs(float(runs.loss_nats[i]) - expected) / width
    reach = max(scores.values()) * half
    return Conformal(
        value=value,
        interval=Interval(lower=value - reach, upper=value + reach),
        level=len(scores) / (len(scores) + 1),
        scores=scores,
    )


def _told(fits: Sequence[Fit], n_params: float, n_tokens: float) -> tuple[float, float]:
    """The forecast, and half of the central two thirds of its draws."""
    lower, upper = loss_quantiles(fits, n_params, n_tokens, _CENTRAL)
    return average_loss(fits, n_params, n_tokens).value, float(upper - lower) / 2


def _nearest(runs: Runs, budget: float, tokens_per_param: float) -> int:
    """Of a budget the run whose ratio is nearest; of several seeds the first."""
    away = np.abs(np.log(runs.n_tokens / runs.n_params / tokens_per_param))
    return int(np.argmin(np.where(runs.budget == budget, away, np.inf)))
