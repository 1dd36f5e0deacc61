# SPDX-License-Identifier: Apache-2.0
"""Schedules through the rates of a table."""

import numpy as np

from scaling.schedules.loss_curves import read_loss_curves, read_schedules


def test_rates_that_begin_late_are_told():
    table = {"run_id": ["a", "a", "b", "b"], "step": [10, 20, 0, 5], "learning_rate": [1, 3, 2, 2]}
    rates, said = read_schedules(table)
    np.testing.assert_allclose(rates["a"], [*np.linspace(0, 1, 11), *np.linspace(1.2, 3, 10)])
    np.testing.assert_allclose(rates["b"], np.full(6, 2.0))
    (one,) = said
    assert one.startswith("the rates of 1 runs begin at step 10: a warm-up from zero, linear up")


def test_a_rate_that_may_have_jumped_is_told():
    table = {
        "run_id": ["a", "a", "a", "b", "b", "b"],
        "step": [0, 10, 20, 0, 10, 20],
        "learning_rate": [3.0, 3.0, 1.0, 3.0, 2.6, 2.2],
        "loss_nats": [4.0, 3.0, 2.0, 4.0, 3.0, 2.0],
    }
    (said,) = read_loss_curves(table).notes
    assert said.startswith("1 runs change their rate by more than 20% of the highest between two")
    assert "(a: 3 at step 10, 1 at 20)" in said
    assert read_loss_curves(table, schedules=table).notes == ()
