# SPDX-License-Identifier: Apache-2.0
"""The compute-optimal size of a surface in closed form, where C = 6ND."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from scaling.tables.arrays import Array


def optimal_exponents(alpha: ArrayLike, beta: ArrayLike) -> tuple[Array, Array]:
    """Exponents (a, b) of N* ~ C^a and D* ~ C^b.

    a = beta/(alpha+beta), b = alpha/(alpha+beta): Hoffmann et al. 2022, eq. 4. Holds for
    C = 6ND only; gamma of the curved form does not move the optimum, being a monotone map.
    """
    alpha, beta = np.asarray(alpha, float), np.asarray(beta, float)
    return beta / (alpha + beta), alpha / (alpha + beta)


def optimal_params(parameters: Sequence[float] | Array, flops: ArrayLike) -> Array:
    """Compute-optimal parameter count N*(C) of the additive or curved surface.

    N* = G (C/6)^a with a = beta/(alpha+beta) and G = (alpha A / beta B)^(1/(alpha+beta)):
    Hoffmann et al. 2022, eq. 4. Holds for C = 6ND only (convention "6n_total"); under other
    conventions `size_ladder.minimise` finds the optimum along the runs' own size ladder.

    Args:
      parameters: E, A, B, alpha, beta (and gamma, which has no influence), shape [..., P].
      flops: training budgets C, in FLOPs, > 0; broadcast against the parameters' leading axes.
    """
    values = np.asarray(parameters, float)
    A, B, alpha, beta = (values[..., i] for i in (1, 2, 3, 4))
    G = (alpha * A / (beta * B)) ** (1.0 / (alpha + beta))
    return G * (np.asarray(flops, float) / 6.0) ** (beta / (alpha + beta))
