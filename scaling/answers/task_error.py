# SPDX-License-Identifier: Apache-2.0
"""The error on a task that a planned run would have.

Task errors follow the loss more closely than they follow parameters and tokens, so the forecast
has two steps (Gadre et al. 2024, sec. 2.4; Bhagia et al. 2024, sec. 3): a surface gives the loss,
an error law gives the error at that loss.
"""

import math
from dataclasses import dataclass

import numpy as np

from scaling.answers.frontier import parameter_draws
from scaling.fit import Fit
from scaling.intervals import Interval
from scaling.laws.registry import law_named
from scaling.tables.short_repr import ShortRepr


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TaskForecast(ShortRepr):
    """Loss and task error of one run, with intervals of the laws (no run-to-run noise)."""

    n_params: float
    n_tokens: float
    loss_nats: float
    interval_loss: Interval
    task_error: float
    interval_error: Interval
    level: float


def forecast_task(surface: Fit, errors: Fit, *, n_params: float, n_tokens: float) -> TaskForecast:
    """Task error of a run at (N, D): error law of the surface's loss, with both uncertainties.

    Replicate r of the surface goes through replicate r of the error law. Where both were drawn by
    pairs from the same runs with the same seed, both have seen the same resample and what is
    common to them is kept; otherwise they are independent.

    Args:
      surface: a fit of a law of n_params and n_tokens that predicts loss_nats.
      errors: a fit of a law of loss_nats.

    Raises:
      ValueError: if a fit is of another kind, or the levels of their intervals differ.
    """
    of_loss, of_error = law_named(surface.law), law_named(errors.law)
    if not of_loss.is_surface or of_error.columns != ("loss_nats",):
        raise ValueError(
            f"a task forecast needs a loss surface and a law of loss_nats; these are "
            f"{of_loss.name} ({of_loss.formula}) and {of_error.name} ({of_error.formula})"
        )
    if not math.isclose(surface.level, errors.level):
        raise ValueError(
            f"the surface has {surface.level:g} intervals and the error law {errors.level:g}; "
            "fit both with one level"
        )
    n = min(surface.bootstrap.n_replicates, errors.bootstrap.n_replicates)
    at = {"n_params": np.array([n_params]), "n_tokens": np.array([n_tokens])}
    losses = of_loss.predict(parameter_draws(surface)[: 1 + n], at)
    # Each row's error law at that row's loss.
    of_errors = parameter_draws(errors)[: 1 + n].T
    error = np.asarray(of_error.value(np, of_errors, {"loss_nats": losses[:, 0]}))
    return TaskForecast(
        n_params=n_params,
        n_tokens=n_tokens,
        loss_nats=float(losses[0, 0]),
        interval_loss=Interval.of(losses[1:, 0], surface.level),
        task_error=float(error[0]),
        interval_error=Interval.of(error[1:], surface.level),
        level=surface.level,
    )
