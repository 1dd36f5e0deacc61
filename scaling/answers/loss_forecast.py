# SPDX-License-Identifier: Apache-2.0
"""Forecast of the loss of one run by one form of the law, or by the average of several."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.answers.frontier import parameter_draws
from scaling.approaches.surface.findings import resolves_gamma
from scaling.fit import Fit, FitError
from scaling.intervals import Estimated, Interval
from scaling.laws.registry import law_named
from scaling.laws.size_ladder import Ladder
from scaling.tables.arrays import Array
from scaling.tables.short_repr import ShortRepr
from scaling.uncertainty.bootstrap_draws import scale_draws


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RunLoss(ShortRepr):
    """The loss that a fit expects of one run.

    Fields:
      n_params, n_tokens: of the run. loss_nats: its forecast, nats per token.
      is_extrapolated: its size, its tokens or its FLOPs lie outside those of the fitted runs.
      level: of the interval.
    """

    n_params: float
    n_tokens: float
    loss_nats: Estimated
    is_extrapolated: bool
    level: float


def run_loss(fit: Fit, n_params: float, n_tokens: float, *, level: float | None = None) -> RunLoss:
    """`predict_loss`, and whether the run lies beyond those that were fitted.

    Raises:
      ValueError: as `predict_loss`, or if the law has no finite loss there.
    """
    found = predict_loss(fit, n_params, n_tokens, level=level)
    runs = fit.fitted_runs
    if not np.isfinite(found.value):
        raise ValueError(
            f"{fit.name} has no loss that far away; its runs have {runs.n_params.min():.3g} to "
            f"{runs.n_params.max():.3g} parameters and {runs.n_tokens.min():.3g} to "
            f"{runs.n_tokens.max():.3g} tokens"
        )
    per_token = np.exp(Ladder.from_runs(runs).log_cost(np.log([n_params])))[0]
    asked = (
        (runs.n_params, n_params),
        (runs.n_tokens, n_tokens),
        (runs.flops, per_token * n_tokens),
    )
    # What is reached to within 1 % counts as reached.
    is_inside = [0.99 * one.min() <= value <= 1.01 * one.max() for one, value in asked]
    return RunLoss(
        n_params=n_params,
        n_tokens=n_tokens,
        loss_nats=found,
        is_extrapolated=not all(is_inside),
        level=fit.level if level is None else level,
    )


def predict_loss(
    fit: Fit,
    n_params: float,
    n_tokens: float,
    *,
    level: float | None = None,
    seed: int = 0,
) -> Estimated:
    """Forecast of the loss of one run of n_params parameters on n_tokens tokens, in nats per token.

    L = L_hat(N, D) + noise: each replicate of the surface is paired with one draw of the scatter
    of a new run about the law (run-to-run noise and lack of fit), with the uncertainty of that
    scatter itself. The scatter is taken as constant in nats, at the mean loss of the fitted runs:
    so it was measured over a decade of compute, and for a run beyond the grid, whose loss is
    lower, it is the wider of the two choices. The form of the law is taken as given; it is not in
    `average_loss`.

    Args:
      fit: a fitted surface.
      n_params, n_tokens: of the run, in the fit's parameter convention.
      level: of the interval; the fit's own when not given.
      seed: of the noise draws.

    Raises:
      ValueError: if the fit is not a surface, or a count is not positive and finite.
    """
    value, draws = _loss_draws(fit, n_params, n_tokens, seed)
    interval = Interval.of(draws, fit.level if level is None else level)
    return Estimated(value=value, interval=interval)


def average_loss(
    fits: Sequence[Fit],
    n_params: float,
    n_tokens: float,
    *,
    level: float | None = None,
    seed: int = 0,
) -> Estimated:
    """`predict_loss` where the form of the law is not known, either: every form counts as much.

    Value: mean of the forms' estimates. Interval: percentiles of as many draws of each. A form most
    of whose replicates are lost is left out. On 15 public tables, fitted below a budget and judged
    2 to 20 times beyond it, this covers more of the runs than the form that the data choose, and
    errs less (results/benchmarks/holdout.md).

    Args:
      fits: surfaces of one table, one per form. The others as in `predict_loss`.

    Raises:
      ValueError: as `predict_loss`, or without fits.
    """
    value, pooled = _pooled(fits, n_params, n_tokens, seed)
    interval = Interval.of(pooled, fits[0].level if level is None else level)
    return Estimated(value=value, interval=interval)


def loss_quantiles(
    fits: Sequence[Fit],
    n_params: float,
    n_tokens: float,
    probabilities: Sequence[float],
    *,
    seed: int = 0,
) -> Float[Array, " P"]:
    """Quantiles of what `average_loss` draws, in nats, [P]; NaN with fewer than two draws.

    Of one surface they are those of `predict_loss`. Arguments and errors are as there.
    """
    _, pooled = _pooled(fits, n_params, n_tokens, seed)
    if len(pooled) < 2:
        return np.full(len(probabilities), np.nan)
    return np.quantile(pooled, probabilities)


def _pooled(
    fits: Sequence[Fit], n_params: float, n_tokens: float, seed: int
) -> tuple[float, Array]:
    """Mean of the estimates, and as many draws of each form, one after another."""
    if not fits:
        raise ValueError("an average needs one fitted surface at least")
    forms = [_loss_draws(fit, n_params, n_tokens, seed) for fit in fits]
    most = max(len(draws) for _, draws in forms)
    forms = [(value, draws) for value, draws in forms if len(draws) >= most / 2]
    n = min(len(draws) for _, draws in forms)
    pooled = np.concatenate([draws[:n] for _, draws in forms])
    return float(np.mean([value for value, _ in forms])), pooled


def _loss_draws(fit: Fit, n_params: float, n_tokens: float, seed: int) -> tuple[float, Array]:
    """The estimate, and losses of one new run by replicate, [R] or fewer where some are lost."""
    if fit.law == "power_laws":
        raise ValueError(f"{fit.approach} gives the loss along the optimum only; fit a surface")
    for name, value in (("n_params", n_params), ("n_tokens", n_tokens)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value}, must be positive and finite")
    losses = law_named(fit.law).loss(parameter_draws(fit), n_params, n_tokens)
    draws = losses[1:][np.isfinite(losses[1:])]
    if fit.noise is not None and fit.noise.dof > 0:
        rng = np.random.default_rng(seed)
        sd_nats = fit.noise.one_run_sd * float(np.mean(fit.fitted_runs.loss_nats))
        scatter = sd_nats * rng.standard_normal(len(draws))
        draws = draws + scatter * scale_draws(fit.noise.dof, len(draws), rng)
    return float(losses[0]), draws


def choose_forecaster(
    fits: Sequence[Fit], *, is_known: Callable[[Fit], bool] = lambda fit: fit.tells_loss
) -> Fit:
    """The surface to take an optimum from: additive, unless the data resolve gamma from 1.

    The curved form contains the additive one (gamma = 1). When gamma's interval includes 1 the
    extra parameter is not supported by the data: along its flat direction E and gamma trade, the
    point forecast a few times beyond the grid hardly moves (0.004 nats at 3x in the quickstart's
    setting), and the interval is wider for nothing. When gamma's interval excludes 1 the additive
    form is wrong in a way the data show, and its extrapolation is biased by it.

    An interval of gamma that ends at a bound of gamma itself resolves nothing: what lies beyond was
    not asked (an example: results/benchmarks/notes/saving_every_way.md).

    Args:
      is_known: whether a curved fit tells what is asked for.

    Raises:
      FitError: when no surface is among the fits.
    """
    surfaces = {fit.law: fit for fit in fits if fit.law != "power_laws"}
    curved = surfaces.get("curved")
    if curved is not None and is_known(curved) and resolves_gamma(curved.intervals["gamma"]):
        return curved
    if not surfaces:
        raise FitError("a forecast needs a fitted surface, and none of the fits is one.")
    return surfaces.get("additive") or next(iter(surfaces.values()))
