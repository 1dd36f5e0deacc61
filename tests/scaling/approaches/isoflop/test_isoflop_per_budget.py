# SPDX-License-Identifier: Apache-2.0
"""A parabola for each budget: planted optima, published exponents, budgets without a minimum."""

import numpy as np
import pytest
from parabolas import BUDGETS, SHAPE, parabolic_runs

from scaling.approaches.isoflop.per_budget import fit_per_budget
from scaling.approaches.power_laws import power_laws
from scaling.fit import Fit, FitError, FitStatus


def test_parabolic_losses_give_back_the_exponents():
    fit = fit_per_budget(parabolic_runs(), n_bootstrap=50)
    assert fit.exponent_a == pytest.approx(0.45, abs=1e-9)
    assert fit.exponent_a + fit.exponent_b == pytest.approx(1.0, abs=1e-9)
    assert fit.parameters["E"] == pytest.approx(1.7, abs=1e-4)
    assert fit.parameters["c"] == pytest.approx(0.1, abs=1e-4)
    assert fit.status is FitStatus.CONVERGED


def test_optima_spend_the_budget():
    for optimum in fit_per_budget(parabolic_runs(), n_bootstrap=0).optima:
        spent = 6 * optimum.n_params_opt * optimum.n_tokens_opt
        assert spent == pytest.approx(optimum.flops, rel=1e-9)


def test_noisy_exponent_lies_within_its_interval(planted_named):
    problem = planted_named("quickstart")
    truth = fit_per_budget(problem.runs(), n_bootstrap=0).exponent_a
    hits = 0
    for seed in range(30):
        interval = fit_per_budget(problem.runs(sd=0.005, seed=seed), n_bootstrap=100).intervals[
            "exponent_a"
        ]
        hits += interval.lower <= truth <= interval.upper
    # 95 % of 30 is 28.5 +- 1.2.
    assert hits >= 25


def test_budget_without_interior_minimum_is_left_out_with_its_reason():
    fit = fit_per_budget(parabolic_runs(shift=[1, 1, 1, 12.0]), n_bootstrap=20)
    reasons = {optimum.budget: optimum.reason for optimum in fit.optima}
    assert "add sizes beyond the smallest" in reasons[1e20]
    assert [reasons[c] for c in BUDGETS[:3]] == ["", "", ""]
    assert fit.exponent_a == pytest.approx(0.45, abs=1e-9)
    assert len(fit.left_out) == len(SHAPE)
    assert fit.status is FitStatus.TOO_FEW_POINTS
    text = fit.to_json()
    assert '"loss_opt": null' in text, "NaN is no JSON"
    assert Fit.from_json(text).to_json() == text


def test_a_vertex_between_the_two_smallest_sizes_is_not_enclosed():
    """Sizes from 0.75 N* on, the second at 1.36 N*."""
    fit = fit_per_budget(parabolic_runs(shift=[1, 1, 1, 4.5]), n_bootstrap=0)
    assert "not one size inside the grid" in fit.optima[3].reason
    kept = fit_per_budget(parabolic_runs(shift=[1, 1, 1, 4.5]), accept="any", n_bootstrap=0)
    assert [optimum.reason for optimum in kept.optima] == ["", "", "", ""]


def test_downward_parabolas_are_refused():
    with pytest.raises(FitError, match="opens downward"):
        fit_per_budget(parabolic_runs(curvature=-0.01))


def test_one_budget_is_refused():
    runs = parabolic_runs()
    with pytest.raises(FitError, match="at least two budgets"):
        fit_per_budget(runs.select(runs.budget == 1e18))


def test_minimum_outside_every_grid_is_refused():
    with pytest.raises(FitError, match="interior minima at 0 of 4 budgets"):
        fit_per_budget(parabolic_runs(shift=20.0))


def test_budgets_with_too_few_sizes_are_named():
    runs = parabolic_runs()
    thin = runs.select((runs.budget != 1e19) | (np.arange(len(runs)) % 3 == 0))
    fit = fit_per_budget(thin, n_bootstrap=0)
    assert any("a parabola needs 5 runs" in sentence for sentence in fit.findings)


def test_weighted_power_laws_are_those_of_polyfit():
    rng = np.random.default_rng(0)
    x, sd = np.linspace(0.0, 6.0, 7), np.geomspace(0.01, 0.5, 7)
    log_n, log_d = 0.5 * x + sd * rng.standard_normal((2, 7))
    loss = 2.0 * np.exp(-0.1 * x) + 0.01 * rng.standard_normal(7)
    found = power_laws(x, log_n[None], log_d[None], loss[None], weights=sd**-2.0)
    for name, y in (("exponent_a", log_n), ("exponent_b", log_d)):
        assert found[name][0] == pytest.approx(np.polyfit(x, y, 1, w=1 / sd)[0], rel=1e-10)
        assert found[name][0] != pytest.approx(np.polyfit(x, y, 1)[0], rel=1e-3)
