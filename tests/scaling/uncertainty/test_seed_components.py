# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from scaling.uncertainty.seed_components import seed_components


def test_a_table_worked_out_by_hand():
    """Rows 1, 3 and columns 0, 4 add up exactly: variances 2 and 8, and nothing is left."""
    found = seed_components([np.array([[1.0, 5.0], [3.0, 7.0]])])
    assert (found.init_sd, found.data_sd) == pytest.approx((2**0.5, 8**0.5))
    assert (found.rest_sd, found.n_points) == (0.0, 1)


def test_planted_components_are_found_over_many_configurations():
    """2000 of 2 x 3; the standard errors of the three are below 2 % there."""
    rng = np.random.default_rng(0)
    tables = [
        5.0 * rng.standard_normal()
        + 0.03 * rng.standard_normal((2, 1))
        + 0.02 * rng.standard_normal((1, 3))
        + 0.01 * rng.standard_normal((2, 3))
        for _ in range(2000)
    ]
    found = seed_components(tables)
    assert found.init_sd == pytest.approx(0.03, rel=0.06)
    assert found.data_sd == pytest.approx(0.02, rel=0.06)
    assert found.rest_sd == pytest.approx(0.01, rel=0.06)


def test_a_component_below_nothing_is_nothing():
    """Noise alone: one of the two estimates of a table is often negative."""
    rng = np.random.default_rng(1)
    found = [seed_components([rng.standard_normal((2, 2))]) for _ in range(50)]
    assert any(one.init_sd == 0.0 for one in found)
    assert all(one.init_sd >= 0 and one.data_sd >= 0 and one.rest_sd > 0 for one in found)


def test_what_is_not_crossed_is_left_out_and_nothing_else_is_refused():
    table = np.array([[1.0, 5.0], [3.0, 7.0]])
    assert seed_components([np.ones((1, 3)), table]).n_points == 1
    with pytest.raises(ValueError, match="each with each"):
        seed_components([np.ones((3, 1))])
