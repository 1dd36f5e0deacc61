# SPDX-License-Identifier: Apache-2.0
"""Whether a joint fit of isoFLOP curves resolves what it says."""

import numpy as np
from jaxtyping import Float

from scaling.intervals import UNKNOWN, Interval
from scaling.tables.arrays import Array


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
