# SPDX-License-Identifier: Apache-2.0
"""Whether a joint fit of isoFLOP curves resolves what it says, and single budgets agree with it."""

import numpy as np
from jaxtyping import Float, Int

from scaling.intervals import UNKNOWN, Interval
from scaling.tables.arrays import Array

# Chance, under the joint law, of a departure that is told.
_RARE = 0.01


def enclosed(sizes: Float[Array, " S"], x: float) -> bool:
    """Whether x lies one size inside the ascending sizes at least."""
    return len(sizes) > 2 and bool(sizes[1] <= x <= sizes[-2])


def curvature_interval(
    kappa: float, residuals: Float[Array, " n"], slopes: Float[Array, "n P"], level: float
) -> Interval:
    """Student's t interval of kappa, in its unit.

    Args:
      residuals: weighted, [n]. slopes: of the fitted values by the parameters, weighted alike;
        those by kappa come first, [n, P].
    """
    from scipy.special import stdtrit

    dof = slopes.shape[0] - slopes.shape[1]
    if dof < 1:
        return UNKNOWN
    variance = np.linalg.pinv(slopes.T @ slopes)[0, 0] * float(residuals @ residuals) / dof
    half = float(stdtrit(dof, (1 + level) / 2) * np.sqrt(variance))
    return Interval(lower=kappa - half, upper=kappa + half)


def departure(
    residuals: Float[Array, " n"], slopes: Float[Array, "n P"], label: Int[Array, " n"]
) -> tuple[str, ...]:
    """That optima and curvatures of single budgets follow no power laws, where that is shown.

    A test of scores (Rao 1948): each budget gets a shift of its optimum and a factor of its
    curvature, to first order, and F compares what that takes off the squares with what is left.

    Args:
      residuals, slopes: as above; slopes by the place of the optimum come second. label: number
        of each run's budget, [n].
    """
    from scipy.special import fdtrc

    is_at = label[:, None] == np.arange(label.max() + 1)
    wide = np.concatenate([slopes, slopes[:, :1] * is_at, slopes[:, 1:2] * is_at], axis=1)
    (few, rest), (many, left) = (_rank_and_squares(x, residuals) for x in (slopes, wide))
    more, dof = many - few, len(label) - many
    if more < 1 or dof < 1 or not left > 0:
        return ()
    ratio = max((rest - left) / more / (left / dof), 0.0)
    chance = float(fdtrc(more, dof, ratio))
    if chance >= _RARE:
        return ()
    return (
        "optima and curvatures of single budgets depart from power laws more than the runs "
        f"scatter (F = {ratio:.1f}, p = {chance:.1g}): a is a mean slope, and its interval is "
        "likely too narrow; see the parabola of each budget.",
    )


def _rank_and_squares(design: Array, residuals: Array) -> tuple[int, float]:
    """Rank of a design, and the squares of the residuals that it leaves."""
    scaled = design / np.maximum(np.linalg.norm(design, axis=0), 1e-300)
    solution, _, rank, _ = np.linalg.lstsq(scaled, residuals, rcond=1e-9)
    return int(rank), float(np.sum((residuals - scaled @ solution) ** 2))
