# SPDX-License-Identifier: Apache-2.0
"""Candidates fill the ranges of starts evenly, in every number of parameters."""

import numpy as np
import pytest
from scipy.stats import qmc

from scaling.laws.starts import _evenly


@pytest.mark.parametrize(("n_axes", "n_points"), [(1, 32), (2, 64), (3, 128), (5, 256), (8, 256)])
def test_points_are_twice_as_even_as_random_ones(n_axes, n_points):
    points = _evenly(n_axes, n_points)
    assert points.shape == (n_points, n_axes)
    assert points.min() >= 0.0
    assert points.max() < 1.0
    random = [np.random.default_rng(seed).random((n_points, n_axes)) for seed in range(20)]
    assert qmc.discrepancy(points) < 0.5 * np.median([qmc.discrepancy(one) for one in random])
