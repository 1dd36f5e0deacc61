# SPDX-License-Identifier: Apache-2.0
"""Normal draws about an estimate of very many runs, which resampling would only repeat.

The covariance is Huber's (1967) and White's (1980): H^-1 (sum over clusters of g g^T) H^-1 with g
the gradient of a cluster's share of the objective. With a thousand clusters per parameter and more
the pairs bootstrap says the same to a few percent, and takes minutes.
"""

import numpy as np
from jaxtyping import Float, Int

from scaling.tables.arrays import Array
from scaling.tables.runs import Runs
from scaling.uncertainty.groups import clusters

SANDWICH = "sandwich"
# Clusters per parameter from which on it is taken by itself.
_PER_PARAMETER = 1000


def are_very_many(runs: Runs, n_parameters: int) -> bool:
    """Whether there are so many clusters that resampling them tells nothing more."""
    is_large = len(runs) >= _PER_PARAMETER * n_parameters
    return is_large and int(clusters(runs).max()) + 1 >= _PER_PARAMETER * n_parameters


def sandwich_covariance(
    residuals: Float[Array, " n"],
    slopes: Float[Array, "n F"],
    labels: Int[Array, " n"],
    delta: float,
    weights: Float[Array, " n"] | float = 1.0,
) -> Float[Array, "F F"]:
    """Covariance of the free coordinates at the minimum of a sum of Huber's loss.

    Args:
      residuals: in the objective's space. slopes: of the predictions by the free coordinates.
      labels: of each run's cluster.
      delta: half-width of the quadratic part; infinite for least squares.
      weights: of the runs in the sum, [n]; or one number for all.
    """
    pull = slopes * (weights * np.clip(residuals, -delta, delta))[:, None]
    hessian = slopes.T @ (slopes * (weights * (np.abs(residuals) <= delta))[:, None])
    of_clusters = np.zeros((int(labels.max()) + 1, slopes.shape[1]))
    np.add.at(of_clusters, labels, pull)
    inverse = np.linalg.inv(hessian)
    return inverse @ (of_clusters.T @ of_clusters) @ inverse


def normal_draws(
    z: Float[Array, " F"],
    covariance: Float[Array, "F F"],
    n_replicates: int,
    rng: np.random.Generator,
) -> Float[Array, "R F"]:
    """Draws [R, F] about the estimate."""
    scale = np.sqrt(np.diag(covariance))
    root = np.linalg.cholesky(covariance / scale / scale[:, None])
    return z + scale * (rng.standard_normal((n_replicates, len(z))) @ root.T)
