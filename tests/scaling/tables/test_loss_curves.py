# SPDX-License-Identifier: Apache-2.0
"""Mean losses along a column, worked out by hand."""

import dataclasses

import numpy as np
import pytest

from scaling.tables.loss_curves import loss_curves
from scaling.tables.runs import Runs

# (budget, N, rate, batch, loss, status)
ROWS = (
    (1e10, 1e4, 0.5, 8, 2.0, "ok"),
    (1e10, 1e4, 0.5, 8, 2.4, "ok"),
    (1e10, 1e4, 1.0, 8, 2.1, "ok"),
    # Its batch of 8 has the lower mean of two, its batch of 16 the lower single run.
    (1e10, 1e4, 2.0, 8, 2.3, "ok"),
    (1e10, 1e4, 2.0, 16, 1.9, "ok"),
    (1e10, 1e4, 2.0, 16, 2.9, "ok"),
    (3e10, 2e4, 0.5, 8, 1.9, "ok"),
    (3e10, 2e4, 1.0, 8, 1.8, "ok"),
    (3e10, 2e4, 2.0, 8, 0.1, "diverged"),
    (3e10, 1e4, 0.5, 8, 1.6, "ok"),
    (3e10, 1e4, 1.0, 8, 1.7, "ok"),
    (3e10, 4e4, 1.0, 8, np.nan, "diverged"),
    (1e11, 1e4, 0.5, 8, 1.5, "ok"),
    (1e11, 1e4, 1.0, 8, 1.4, "ok"),
)


@pytest.fixture
def runs():
    budget, n_params, rate, batch, loss, status = zip(*ROWS, strict=True)
    made = Runs.from_columns(
        budget=budget, n_params=n_params, n_tokens=np.full(len(ROWS), 1e6), loss_nats=loss,
        status=status,
    )  # fmt: skip
    return dataclasses.replace(made, extra={"rate": np.array(rate), "batch": np.array(batch)})


def test_a_curve_has_the_mean_of_the_best_other_setting_at_each_value(runs):
    curves = loss_curves(runs, "rate", ("budget", "n_params"), ("batch",))
    keys = [tuple(curve.at.values()) for curve in curves]
    assert keys == [(1e10, 1e4), (3e10, 1e4), (3e10, 2e4), (3e10, 4e4), (1e11, 1e4)]
    first, *_ = curves
    assert first.at == {"budget": 1e10, "n_params": 1e4}
    assert first.values.tolist() == [0.5, 1.0, 2.0]
    assert first.losses == pytest.approx([2.2, 2.1, 2.3])


def test_the_lowest_is_at_the_edge_unless_what_lies_beyond_diverged(runs):
    curves = loss_curves(runs, "rate", ("budget", "n_params"), ("batch",))
    lowest = [(curve.lowest, curve.is_at_edge) for curve in curves]
    assert lowest == [(1, False), (0, True), (1, False), (None, False), (1, True)]
    assert np.isnan(curves[2].losses[2])


def test_standard_errors_pool_the_repeats_of_a_curve_and_tell_ties(runs):
    first, second, *_ = loss_curves(runs, "rate", ("budget", "n_params"), ("batch",))
    # Of 0.5 two repeats 0.4 apart, of 2.0 with a batch of 16 two 1.0 apart: two degrees of freedom.
    sd = np.sqrt((2 * 0.2**2 + 2 * 0.5**2) / 2)
    assert first.errors == pytest.approx([sd / np.sqrt(2), sd, sd])
    assert first.ties == [0, 2]
    near = dataclasses.replace(first, errors=np.array([0.05, 0.09, 0.2]))
    assert near.ties == [0, 2], "0.1 above, hypot(0.05, 0.09) = 0.103"
    assert dataclasses.replace(first, errors=np.array([0.04, 0.09, 0.1])).ties == []
    # Nothing was repeated: nothing is known to be equal.
    assert np.isnan(second.errors).all()
    assert second.ties == []


def test_sizes_of_a_budget_are_a_curve_too(runs):
    one, other, _ = loss_curves(runs.select(runs.is_ok), "n_params", ("budget",))
    assert (one.values.tolist(), one.losses) == ([1e4], pytest.approx([13.6 / 6]))
    assert other.values.tolist() == [1e4, 2e4]
    assert other.losses == pytest.approx([1.65, 1.85])
