# SPDX-License-Identifier: Apache-2.0
"""Power laws N*(C), D*(C) and a saturating L*(C) through optima, for all replicates at once."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.fit import EXPONENTS, Fit, FitStatus
from scaling.intervals import Interval
from scaling.laws.fewest import JUDGED_BUDGETS
from scaling.tables.arrays import Array

# Saturation exponents tried for L*(C), and the refinement around the best one.
_SATURATION = np.geomspace(0.01, 1.2, 60)
# Optima below which L*(C) has no misfit: three parameters through three points.
POWER_LAW_PARAMETERS = ("n_params_ref", "n_tokens_ref", *EXPONENTS, "E", "K", "c")


def power_laws(
    log_flops: Float[Array, " B"],
    log_n: Float[Array, "R B"],
    log_d: Float[Array, "R B"],
    loss: Float[Array, "R B"],
    *,
    reference: float | None = None,
    weights: Float[Array, " B"] | None = None,
) -> dict[str, Float[Array, " R"]]:
    """Power laws through the optima of several budgets, for all replicates at once.

    N* = N_ref (C/C_ref)^a, D* = D_ref (C/C_ref)^b by least squares on logarithms, and
    L* = E + K (C/C_ref)^-c by least squares on the loss.

    Args:
      log_flops: [B]. log_n, log_d, loss: [R, B], NaN where a replicate lacks that budget.
      reference: log C_ref; the mean of log_flops when not given.
      weights: of the budgets in all three; equal ones when not given.

    Returns:
      name -> [R] for POWER_LAW_PARAMETERS; NaN where fewer than two budgets remain.
    """
    x = log_flops - (log_flops.mean() if reference is None else reference)
    w = np.isfinite(log_n) * (1.0 if weights is None else weights / weights.mean())
    intercept_n, a = _line(x, np.nan_to_num(log_n), w)
    intercept_d, b = _line(x, np.nan_to_num(log_d), w)
    E, K, c = _saturating(x, np.nan_to_num(loss), w)
    values = (np.exp(intercept_n), np.exp(intercept_d), a, b, E, K, c)
    return {
        name: np.where(np.isfinite(a), value, np.nan)
        for name, value in zip(POWER_LAW_PARAMETERS, values, strict=True)
    }


def replicates_of(values: Mapping[str, Float[Array, " draws"]], n_budgets: int) -> dict[str, Array]:
    """Replicates [R] of power laws through so many optima: values [1 + R] without the estimate."""
    replicates = {name: column[1:] for name, column in values.items()}
    if n_budgets < JUDGED_BUDGETS:
        # E = 0 was taken, not found: replicates of it would be surer than the data are.
        unknown = np.full(len(replicates["exponent_a"]), np.nan)
        replicates |= dict.fromkeys(("E", "K", "c"), unknown)
    return replicates


def power_law_status(n_budgets: int, findings: list[str]) -> FitStatus:
    """Status of a power law through so many budgets; a sentence joins the findings if doubtful."""
    if n_budgets >= JUDGED_BUDGETS:
        return FitStatus.CONVERGED
    findings.append(
        f"only {n_budgets} budgets have an interior minimum: a power law through them shows no "
        f"misfit, and L*(C) gets no interval; {JUDGED_BUDGETS} or more are needed to judge it."
    )
    return FitStatus.TOO_FEW_POINTS


def power_law_fields(
    values: Mapping[str, Float[Array, " draws"]],
    replicates: Mapping[str, Float[Array, " R"]],
    log_ref: float,
    level: float,
) -> dict[str, Any]:
    """Fields of a `Fit` that power laws give.

    Args:
      values: name -> [1 + R], as `power_laws` returns it, the estimate first. replicates: [R] each.
      log_ref: log C_ref of the power laws.
    """
    estimates = {name: float(column[0]) for name, column in values.items()}
    a, b = estimates.pop("exponent_a"), estimates.pop("exponent_b")
    return {
        "law": "power_laws",
        "parameters": estimates | {"flops_ref": float(np.exp(log_ref))},
        "intervals": {name: Interval.of(column, level) for name, column in replicates.items()},
        "exponent_a": a,
        "exponent_b": b,
        "certificate": None,
        "replicates": replicates,
    }


def power_law_draws(fit: Fit) -> dict[str, Float[Array, " draws"]]:
    """Parameters of the power laws, name -> [1 + R]: the estimate first."""
    estimates = {**fit.parameters, **fit.exponents}
    return {
        name: np.concatenate([[estimates[name]], fit.replicates[name]])
        for name in POWER_LAW_PARAMETERS
    }


def _line(x: Array, y: Array, w: Array) -> tuple[Array, Array]:
    """Intercept at x = 0 and slope [R] of weighted lines; NaN with fewer than two points."""
    total, n_points = w.sum(axis=1), np.count_nonzero(w, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = (w @ x) / total, np.sum(w * y, axis=1) / total
        dx = x - mean_x[:, None]
        slope = np.sum(w * dx * y, axis=1) / np.sum(w * dx**2, axis=1)
    slope = np.where(n_points >= 2, slope, np.nan)
    return mean_y - slope * mean_x, slope


def _saturating(x: Array, y: Array, w: Array) -> tuple[Array, Array, Array]:
    """E >= 0, K, c [R] of y = E + K exp(-c x), by a search over c with E and K projected out.

    With fewer than four budgets three parameters leave no misfit, and E = 0 is taken.
    """
    c = np.broadcast_to(_SATURATION, (len(y), len(_SATURATION)))
    is_judged = np.count_nonzero(w, axis=1) >= JUDGED_BUDGETS
    may_saturate = np.broadcast_to(is_judged[:, None], c.shape)
    for _ in range(6):
        misfit, _, _ = _project(x, y, w, c, may_saturate)
        best = np.argmin(misfit, axis=1)[:, None]
        low = np.take_along_axis(c, np.maximum(best - 1, 0), axis=1)
        high = np.take_along_axis(c, np.minimum(best + 1, c.shape[1] - 1), axis=1)
        c = low + (high - low) * np.linspace(0, 1, 31)
        may_saturate = may_saturate[:, :1]
    misfit, E, K = _project(x, y, w, c, may_saturate)
    best = np.argmin(misfit, axis=1)[:, None]
    E, K, c = (np.take_along_axis(v, best, axis=1)[:, 0] for v in (E, K, c))
    return E, K, c


def _project(
    x: Array, y: Array, w: Array, c: Array, may_saturate: Array
) -> tuple[Array, Array, Array]:
    """Misfit, E and K [R, G] of y = E + K exp(-c x) at each trial c."""
    basis = np.exp(-c[:, :, None] * x)
    weight, target = w[:, None, :], y[:, None, :]
    total = np.maximum(weight.sum(axis=2), 1e-300)
    mean_b = np.sum(weight * basis, axis=2) / total
    mean_y = np.sum(weight * target, axis=2) / total
    spread = np.sum(weight * (basis - mean_b[:, :, None]) ** 2, axis=2)
    cross = np.sum(weight * (basis - mean_b[:, :, None]) * target, axis=2)
    K = cross / np.maximum(spread, 1e-300)
    E = mean_y - K * mean_b
    through_zero = np.sum(weight * basis * target, axis=2) / np.maximum(
        np.sum(weight * basis**2, axis=2), 1e-300
    )
    free = may_saturate & (E > 0)
    E, K = np.where(free, E, 0.0), np.where(free, K, through_zero)
    misfit = np.sum(weight * (target - E[:, :, None] - K[:, :, None] * basis) ** 2, axis=2)
    return misfit, E, K
