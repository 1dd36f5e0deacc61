# SPDX-License-Identifier: Apache-2.0
"""How a quantity grows with the width or the depth of a network, and whether it does."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

# In theory sizes grow as powers that are multiples of 1/2: a sum of n terms grows as n^(1/2) where
# their signs are random and as n where they agree (Yang et al. 2022, arXiv:2203.03466). Half of the
# smallest parts what stays from what grows.
FLAT = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Exponent p of value ~ size^p.

    Fields:
      exponent: mean over seeds. standard_error: of that mean, seeds taken as independent; NaN
        with one seed.
      verdict: "flat" where |p| < FLAT, else "grows" or "falls"; "no power law" where a value is
        zero or not finite.
    """

    exponent: float
    standard_error: float
    verdict: str


def growth(sizes: ArrayLike, values: ArrayLike) -> Growth:
    """Least squares on logarithms, for each seed by itself.

    Args:
      sizes: widths or depths, [S], at least two. values: mean absolute sizes, [seeds, S].
    """
    x, y = np.log(np.asarray(sizes, float)), np.asarray(values, float)
    if not np.all(np.isfinite(y) & (y > 0)):
        return Growth(exponent=np.nan, standard_error=np.nan, verdict="no power law")
    slopes = np.polyfit(x, np.log(y).T, 1)[0]
    exponent, n = float(slopes.mean()), len(slopes)
    error = float(slopes.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan
    verdict = "flat" if abs(exponent) < FLAT else "grows" if exponent > 0 else "falls"
    return Growth(exponent=exponent, standard_error=error, verdict=verdict)
