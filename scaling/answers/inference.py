# SPDX-License-Identifier: Apache-2.0
"""Sizes that account for inference: the cheapest model of a loss to train and to serve.

Training costs flops_per_token(N) D under the runs' convention, serving 2 N per token (Sardana et
al. 2024, eq. 2). A model that will be served for D_inf tokens should be smaller, and trained on
more tokens, than the one that is cheapest to train.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling.answers.frontier import finite_draws, parameter_draws
from scaling.fit import Fit, FitStatus
from scaling.intervals import Estimated
from scaling.laws.registry import law_named
from scaling.laws.size_ladder import Ladder, lowest
from scaling.tables.arrays import Array
from scaling.tables.short_repr import ShortRepr

LogLoss = Callable[[Array, Array], Array]

INFERENCE_FLOPS_PER_PARAM = 2.0
# Decades beyond the runs' sizes, and beyond their tokens, in which an optimum is looked for.
_DECADES = 6.0
_N_GRID = 193


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One choice of model: parameters, training tokens, loss, FLOPs of training and of both."""

    n_params: Estimated
    n_tokens: Estimated
    loss_nats: Estimated
    training_flops: Estimated
    total_flops: Estimated


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class InferenceOptimum(ShortRepr):
    """The plan that counts inference next to the one that is cheapest to train to the same loss.

    Fields:
      params_ratio, tokens_ratio: best over training_only. flops_saved: share of the total that
        training_only would cost, between 0 and 1. All from the same replicates.
      is_extrapolated: the best size or its tokens lie outside those of the runs.
    """

    inference_tokens: float
    best: Plan
    training_only: Plan
    params_ratio: Estimated
    tokens_ratio: Estimated
    flops_saved: Estimated
    is_extrapolated: bool
    level: float
    status: FitStatus
    findings: tuple[str, ...]


def cheapest_for_loss(
    fit: Fit, loss_nats: float, inference_tokens: float, *, level: float | None = None
) -> InferenceOptimum:
    """The model of a given loss that costs least to train and to serve.

    Minimises flops_per_token(N) D + 2 N D_inf subject to L(N, D) = loss (Sardana et al. 2024,
    eq. 2; there flops_per_token = 6N). D follows from N on the contour of the loss.

    Args:
      fit: a fitted surface. loss_nats: to be reached.
      inference_tokens: D_inf >= 0 over the model's life; 0 gives the training optimum.
      level: of the intervals; the fit's own when not given.

    Raises:
      ValueError: if the fit is no surface, or the loss is not reached however much is spent.
    """
    log_loss, ladder = _surface_of(fit)
    _check("loss_nats", loss_nats, loss_nats > 0)
    _check("inference_tokens", inference_tokens, inference_tokens >= 0)
    n_draws = len(finite_draws(fit))
    target = np.full((n_draws, 1), np.log(loss_nats))
    best = _cheapest(log_loss, ladder, fit, target, inference_tokens)
    if not np.isfinite(best[0][0, 0]):
        raise ValueError(
            f"the {fit.law} surface has no cheapest model of {loss_nats:g} nats within "
            f"{_DECADES:g} decades of the runs; its losses there end at "
            f"{_lowest(log_loss, fit):.4g} nats"
        )
    return _optimum(fit, log_loss, ladder, best, inference_tokens, level)


def _optimum(
    fit: Fit,
    log_loss: LogLoss,
    ladder: Ladder,
    best: tuple[Array, Array],
    inference_tokens: float,
    level: float | None,
) -> InferenceOptimum:
    """Both plans of all draws; the training-only one reaches each draw's own loss."""
    level = fit.level if level is None else level
    reached = log_loss(*best)
    alone = _cheapest(log_loss, ladder, fit, reached, 0.0)
    plans = [_columns(ladder, *place, reached, inference_tokens) for place in (best, alone)]
    chosen, other = plans

    def estimated(draws: Array) -> Estimated:
        return Estimated.of(draws, level)

    n_lost = int(np.sum(~np.isfinite(chosen["total_flops"] + other["total_flops"])))
    n_lost += len(parameter_draws(fit)) - len(chosen["n_params"])
    runs = fit.fitted_runs
    beyond = [
        not 0.999 * column.min() <= value <= 1.001 * column.max()
        for column, value in (
            (runs.n_params, chosen["n_params"][0]),
            (runs.n_tokens, chosen["n_tokens"][0]),
        )
    ]
    return InferenceOptimum(
        inference_tokens=inference_tokens,
        best=Plan(**{name: estimated(draws) for name, draws in chosen.items()}),
        training_only=Plan(**{name: estimated(draws) for name, draws in other.items()}),
        params_ratio=estimated(chosen["n_params"] / other["n_params"]),
        tokens_ratio=estimated(chosen["n_tokens"] / other["n_tokens"]),
        flops_saved=estimated(1.0 - chosen["total_flops"] / other["total_flops"]),
        is_extrapolated=any(beyond),
        level=level,
        status=fit.status,
        findings=tuple(_findings(fit, beyond, n_lost)),
    )


def _columns(
    ladder: Ladder, log_n: Array, log_d: Array, log_loss: Array, inference_tokens: float
) -> dict[str, Array]:
    """Draws [1 + R] of each field of a plan."""
    n_params = np.exp(log_n[:, 0])
    training = np.exp(ladder.log_cost(log_n) + log_d)[:, 0]
    return {
        "n_params": n_params,
        "n_tokens": np.exp(log_d[:, 0]),
        "loss_nats": np.exp(log_loss[:, 0]),
        "training_flops": training,
        "total_flops": training + INFERENCE_FLOPS_PER_PARAM * n_params * inference_tokens,
    }


def _cheapest(
    log_loss: LogLoss, ladder: Ladder, fit: Fit, target: Array, inference_tokens: float
) -> tuple[Array, Array]:
    """log N, log D [1 + R, 1] of least total cost on each draw's contour; NaN where none is."""
    tokens = np.log(fit.fitted_runs.n_tokens)
    reach = _DECADES * np.log(10.0)
    ends = float(tokens.min() - reach), float(tokens.max() + reach)

    def log_tokens(log_n: Array) -> Array:
        return _on_contour(log_loss, log_n, target, ends)

    def along(log_n: Array) -> Array:
        training = ladder.log_cost(log_n) + log_tokens(log_n)
        serving = INFERENCE_FLOPS_PER_PARAM * inference_tokens
        with np.errstate(divide="ignore", invalid="ignore"):
            total = np.logaddexp(training, np.log(serving) + log_n)
        return np.where(np.isfinite(training), total, np.inf)

    log_n = lowest(along, ladder, target.shape, decades=_DECADES, n_grid=_N_GRID)
    return log_n, log_tokens(log_n)


def _on_contour(log_loss: LogLoss, log_n: Array, target: Array, ends: tuple[float, float]) -> Array:
    """log D with L(N, D) = target, by bisection; NaN where the loss is not met between the ends."""
    low = np.broadcast_to(ends[0], np.broadcast_shapes(log_n.shape, target.shape)).copy()
    high = np.full(low.shape, ends[1])
    is_met = (log_loss(log_n, low) >= target) & (log_loss(log_n, high) <= target)
    for _ in range(60):
        middle = 0.5 * (low + high)
        is_above = log_loss(log_n, middle) > target
        low, high = np.where(is_above, middle, low), np.where(is_above, high, middle)
    return np.where(is_met, 0.5 * (low + high), np.nan)


def _surface_of(fit: Fit) -> tuple[LogLoss, Ladder]:
    law = None if fit.law == "power_laws" else law_named(fit.law)
    if law is None or not law.is_surface:
        raise ValueError(f"{fit.name} has no loss surface over N and D; fit one with fit_surface")
    return law.log_loss_of(finite_draws(fit)), Ladder.from_runs(fit.fitted_runs)


def _lowest(log_loss: LogLoss, fit: Fit) -> float:
    far = _DECADES * np.log(10.0)
    runs = fit.fitted_runs
    corner = np.log([runs.n_params.max(), runs.n_tokens.max()]) + far
    return float(np.exp(log_loss(corner[:1, None], corner[1:, None])[0, 0]))


def _check(name: str, value: float, is_legal: bool) -> None:
    if not (np.isfinite(value) and is_legal):
        raise ValueError(f"{name} is {value}, must be finite and not negative (a loss above 0)")


def _findings(fit: Fit, beyond: list[bool], n_lost: int) -> list[str]:
    sentences = [] if fit.is_certified else [f"the fit is {fit.status.name}: {fit.status.value}."]
    outside = [name for name, is_out in zip(("size", "token count"), beyond, strict=True) if is_out]
    if outside:
        sentences.append(
            f"outside the runs: the best {' and the best '.join(outside)}. Laws fitted near the "
            "compute optimum have been seen to misjudge long training."
        )
    if n_lost:
        sentences.append(f"{n_lost} replicates have no such optimum and are not in the intervals.")
    return sentences
