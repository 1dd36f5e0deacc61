# SPDX-License-Identifier: Apache-2.0
"""The size ladder, the numerical optimum, and local exponents against brute force."""

import time
from dataclasses import replace

import numpy as np
import pytest

from scaling.laws.closed_form_optimum import optimal_params
from scaling.laws.loss_laws import ADDITIVE
from scaling.laws.size_ladder import Ladder, local_exponents, minimise

LAW = np.array([[0.86, 66.0, 124.0, 0.50, 0.41]])


def ladder_of(n_params, per_token):
    return Ladder(log_n_params=np.log(n_params), log_flops_per_token=np.log(per_token), spread=0.0)


def transformer_ladder():
    """Widths 16 to 128, 2 layers, tied head of 256, T 128: matmul FLOPs per token."""
    d = np.array([16.0, 24, 32, 40, 48, 64, 80, 96, 128])
    N = 256 * d + 2 * (4 * d**2 + 8 * d**2)
    return ladder_of(N, 6 * N + 12 * 2 * 128 * d)


def test_6nd_optimum_equals_the_closed_form():
    N = np.geomspace(1e4, 1e6, 7)
    ladder = ladder_of(N, 6 * N)
    assert ladder.is_6nd
    budgets = np.geomspace(1e10, 1e15, 6)
    found = np.exp(minimise(ADDITIVE.log_loss_of(LAW), ladder, np.log(budgets)[None]))[0]
    np.testing.assert_allclose(found, optimal_params(LAW[0], budgets), rtol=1e-6)
    np.testing.assert_allclose(found * ladder.n_tokens(budgets, found), budgets / 6, rtol=1e-12)


def test_flops_that_a_table_rounds_are_6nd():
    N = np.geomspace(1e6, 1e9, 25)
    assert ladder_of(N, np.array([float(f"{x:.3e}") for x in 6 * N])).is_6nd
    assert not ladder_of(N, 1.002 * 6 * N).is_6nd
    assert not replace(ladder_of(N, 6 * N), spread=0.01).is_6nd


def test_other_conventions_match_a_brute_force_grid():
    ladder = transformer_ladder()
    assert not ladder.is_6nd
    budgets = np.array([1e11, 1e12, 3e12])
    log_loss = ADDITIVE.log_loss_of(LAW)
    a, b = local_exponents(log_loss, ladder, np.log(budgets)[None])
    half = 0.1
    for i, C in enumerate(budgets):
        best = []
        for shift in (-half, half):
            N = np.exp(np.linspace(np.log(1e4), np.log(1e6), 400_001))
            D = C * np.exp(shift) / ladder.flops_per_token(N)
            L = 0.86 + 66.0 / N**0.5 + 124.0 / D**0.41
            best.append((np.log(N[np.argmin(L)]), np.log(D[np.argmin(L)])))
        slope_n, slope_d = (np.array(best[1]) - np.array(best[0])) / (2 * half)
        assert a[0, i] == pytest.approx(slope_n, abs=2e-3)
        assert b[0, i] == pytest.approx(slope_d, abs=2e-3)
    assert np.all(a + b > 1.02), "small networks pay less than 6N per token and parameter"


def test_rounded_widths_leave_no_ripple_in_the_exponents():
    smooth = transformer_ladder()
    rng = np.random.default_rng(0)
    rippled = Ladder(
        log_n_params=smooth.log_n_params,
        log_flops_per_token=smooth.log_flops_per_token + rng.uniform(-0.004, 0.004, 9),
        spread=0.0,
    )
    C = np.log(np.geomspace(1e11, 3e12, 9))[None]
    a = local_exponents(ADDITIVE.log_loss_of(LAW), rippled, C)[0][0]
    assert np.max(np.abs(np.diff(a))) < 0.01


def test_beyond_the_ladder_cost_goes_on_as_a_straight_line():
    ladder = transformer_ladder()
    top = ladder.log_n_params[-1]
    steps = ladder.log_cost(top + np.array([0.0, 1.0, 2.0, 3.0]))
    np.testing.assert_allclose(np.diff(steps, 2), 0.0, atol=1e-12)
    assert 0.8 < np.diff(steps)[0] < 1.0


def test_irregular_ladder_is_interpolated_through_its_sizes():
    N = np.array([1e4, 3e4, 1e5, 3e5])
    per_token = 6 * N * np.array([1.0, 1.4, 1.1, 1.6])
    ladder = ladder_of(N, per_token)
    np.testing.assert_allclose(ladder.flops_per_token(N), per_token, rtol=1e-12)


def test_one_size_costs_in_proportion():
    assert ladder_of(np.array([1e5]), np.array([7e5])).flops_per_token(2e5) == pytest.approx(1.4e6)


def test_no_optimum_is_not_a_number():
    N = np.geomspace(1e4, 1e6, 5)
    flat = np.array([[1.0, 1e-9, 100.0, 1e-3, 0.5]])
    found = minimise(ADDITIVE.log_loss_of(flat), ladder_of(N, 6 * N), np.log([[1e12]]), decades=2)
    assert np.isnan(found).all()


def test_thousand_replicates_take_seconds_at_most():
    laws = np.repeat(LAW, 1000, axis=0) * np.random.default_rng(0).uniform(0.97, 1.03, (1000, 5))
    budgets = np.broadcast_to(np.log(np.geomspace(1e11, 1e13, 20)), (1000, 20))
    start = time.perf_counter()
    found = minimise(ADDITIVE.log_loss_of(laws), transformer_ladder(), budgets)
    # Measured 0.6 s on one core; the limit leaves room for a busy machine.
    assert time.perf_counter() - start < 5.0
    assert np.isfinite(found).all()
