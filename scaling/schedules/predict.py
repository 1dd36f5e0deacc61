# SPDX-License-Identifier: Apache-2.0
"""The loss that a new schedule would give, and which of several is best."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from scaling.intervals import Band, Interval
from scaling.schedules.fit import ScheduleFit
from scaling.schedules.multi_power_law import schedule_columns
from scaling.tables.arrays import Array
from scaling.tables.short_repr import ShortRepr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Ranking(ShortRepr):
    """Final losses of schedules, best first.

    Fields:
      loss, interval: of the law at the last step. behind, behind_interval: loss minus that of the
        best schedule, over the same replicates: what they share cancels. The misfit of the law is
        drawn anew for each schedule, which is cautious where two of them are alike.
      share_best: of the replicates, how many rank this schedule first.
    """

    names: tuple[str, ...]
    loss: tuple[float, ...]
    interval: tuple[Interval, ...]
    behind: tuple[float, ...]
    behind_interval: tuple[Interval, ...]
    share_best: tuple[float, ...]
    findings: tuple[str, ...]


def predict_schedule(
    fit: ScheduleFit, lr: ArrayLike, *, step: ArrayLike | None = None, seed: int = 0
) -> tuple[Array, " Band"]:
    """Steps, and the loss of the law at them along a new schedule, with a band.

    The band holds the fit's uncertainty and the misfit of the law to a curve that was not fitted,
    one draw of Student's t per replicate and curve; scatter of single evaluations
    (`residual_sd`) comes on top. `schedule_findings` says where it extrapolates.

    Args:
      lr: [T + 1], warm-up included. step: where the loss is wanted; 64 steps when not given.
      seed: of the misfit draws.
    """
    lr = np.asarray(lr, float)
    last = len(lr) - 1
    steps = np.asarray(step) if step is not None else np.linspace(last / 64, last, 64)
    steps = np.unique(np.maximum(np.atleast_1d(steps).astype(int), 1))
    columns = schedule_columns(["new"] * len(steps), steps, {"new": lr})
    losses = fit.law.predict(fit.draws, columns)
    losses[1:] *= _misfit_draws(fit, (len(losses) - 1, 1), seed)
    return steps, Band.of(losses, fit.bootstrap.level)


def schedule_findings(fit: ScheduleFit, lr: ArrayLike, name: str = "the schedule") -> list[str]:
    """What makes a prediction for this schedule an extrapolation, in words."""
    lr = np.asarray(lr, float)
    after, (low, high) = lr[int(np.argmax(lr)) :], fit.lr_range
    sentences = [] if fit.is_certified else [f"the fit is {fit.status.name}: {fit.status.value}."]
    if np.sum(lr) > 1.01 * fit.lr_sum:
        ratio = np.sum(lr) / fit.lr_sum
        sentences.append(f"{name} sums to {ratio:.3g} times the largest fitted sum of rates.")
    if np.max(after) > 1.001 * high or np.min(after) < 0.999 * low:
        sentences.append(
            f"{name} has rates of {np.min(after):.3g} to {np.max(after):.3g}, the fitted ones "
            f"lie between {low:.3g} and {high:.3g}: extrapolation."
        )
    return sentences


def rank_schedules(fit: ScheduleFit, schedules: Mapping[str, Array], *, seed: int = 0) -> Ranking:
    """Final losses of several schedules, best first, with paired uncertainty.

    Args:
      schedules: name -> lr [T + 1]. seed: of the misfit draws.

    Raises:
      ValueError: if there are no schedules.
    """
    if not schedules:
        raise ValueError("no schedules to compare; give at least one")
    last = [len(lr) - 1 for lr in schedules.values()]
    columns = schedule_columns(list(schedules), last, schedules)
    draws, level = fit.law.predict(fit.draws, columns), fit.bootstrap.level
    draws[1:] *= _misfit_draws(fit, draws[1:].shape, seed)
    order = np.argsort(draws[0], kind="stable")
    draws = draws[:, order]
    names = [list(schedules)[i] for i in order]
    behind = draws - draws[:, :1]
    good = draws[1:][np.all(np.isfinite(draws[1:]), axis=1)]
    wins = np.sum(good == good.min(axis=1, keepdims=True, initial=np.inf), axis=0)
    return Ranking(
        names=tuple(names),
        loss=tuple(float(v) for v in draws[0]),
        interval=tuple(Interval.of(column, level) for column in draws[1:].T),
        behind=tuple(float(v) for v in behind[0]),
        behind_interval=tuple(Interval.of(column, level) for column in behind[1:].T),
        share_best=tuple(float(w) / len(good) if len(good) else np.nan for w in wins),
        findings=tuple(s for name in names for s in schedule_findings(fit, schedules[name], name)),
    )


def _misfit_draws(fit: ScheduleFit, shape: tuple[int, int], seed: int) -> Array:
    """Factors on the loss: Student's t, for the scale is known from a few curves only."""
    if not np.isfinite(fit.misfit_sd):
        return np.ones(shape)
    draws = np.random.default_rng(seed).standard_t(fit.n_predicted, size=shape)
    return np.exp(fit.misfit_sd * draws)
