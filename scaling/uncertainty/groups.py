# SPDX-License-Identifier: Apache-2.0
"""Which runs belong together: repeats of one configuration, branches of one trunk, clusters."""

import numpy as np
from jaxtyping import Float, Int

from scaling.tables.arrays import Array
from scaling.tables.runs import Runs


def configurations(runs: Runs) -> Int[Array, " n"]:
    """Label of each run's (N, D): repeats of one configuration share a label."""
    pairs = np.stack([runs.n_params, runs.n_tokens], axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)


def clusters(runs: Runs) -> Int[Array, " n"]:
    """Label of each run's cluster: runs linked by cluster_id or by their configuration."""
    labels = configurations(runs)
    named = np.unique(runs.cluster_id, return_inverse=True)[1].reshape(-1)
    while True:
        joined = _lowest_per_group(_lowest_per_group(labels, named), labels)
        if np.array_equal(joined, labels):
            return np.unique(labels, return_inverse=True)[1].reshape(-1)
        labels = joined


def trunks(runs: Runs) -> Int[Array, " n"]:
    """Label of each run's cluster_id, in the order of their first run: names do not count."""
    _, first, label = np.unique(runs.cluster_id, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[label.reshape(-1)]


def members(labels: Int[Array, " n"]) -> Float[Array, "n K"]:
    """1 where a run belongs to a group, else 0."""
    return (labels[:, None] == np.arange(labels.max() + 1)).astype(float)


def share_noise(runs: Runs) -> bool:
    """Whether runs of different configurations have one cluster_id, as branches of a trunk do."""
    return not np.array_equal(clusters(runs), configurations(runs))


def _lowest_per_group(values: Array, group: Array) -> Array:
    lowest = np.full(group.max() + 1, values.max() + 1)
    np.minimum.at(lowest, group, values)
    return lowest[group]
