# SPDX-License-Identifier: Apache-2.0
"""Curves of all budgets fitted together: planted optima, weak budgets, what is certified."""

from dataclasses import replace

import numpy as np
import pytest
from parabolas import BUDGETS, SHAPE, parabolic_runs
from scipy.stats import linregress
from scipy.stats import t as student

from scaling.answers.frontier import frontier
from scaling.approaches.isoflop.curves import value_at
from scaling.approaches.isoflop.fit import fit_isoflop
from scaling.approaches.isoflop.joint import fit_joint
from scaling.approaches.isoflop.law import excess
from scaling.approaches.isoflop.per_budget import fit_per_budget
from scaling.fit import Fit, FitError, FitStatus
from scaling.laws.closed_form_optimum import optimal_params
from scaling.laws.registry import law_named


@pytest.mark.parametrize("name", ["chinchilla", "asymmetric", "off_centre"])
def test_losses_of_an_additive_law_give_back_its_optima(planted_named, name):
    """Grids and exponents with which parabolas are off by several per cent."""
    problem = planted_named(name)
    _, _, _, alpha, beta = problem.parameters
    fit = fit_isoflop(problem.runs(), n_bootstrap=0)
    assert fit.exponent_a == pytest.approx(beta / (alpha + beta), abs=1e-6)
    assert fit.parameters["curvature_exponent"] == pytest.approx(
        -alpha * beta / (alpha + beta), abs=1e-6
    )
    exact = optimal_params(np.array(problem.parameters), 1e23)
    assert frontier(fit, 1e23).n_params_opt.value[0] == pytest.approx(exact, rel=1e-5)
    assert fit.parameters["E"] == pytest.approx(problem.parameters[0], abs=1e-3)


def test_parabolic_losses_give_back_the_exponents():
    fit = fit_isoflop(parabolic_runs(), n_bootstrap=0)
    # Reached by steps, and at the edge g = 0; parabolas are solved in closed form.
    assert fit.exponent_a == pytest.approx(0.45, abs=1e-7)
    assert fit.exponent_a + fit.exponent_b == pytest.approx(1.0, abs=1e-9)
    assert fit.parameters["curvature"] == pytest.approx(0.1, rel=1e-6)
    assert fit.parameters["curvature_exponent"] == pytest.approx(0.0, abs=1e-6)
    assert fit.parameters["c"] == pytest.approx(0.1, abs=1e-4)
    assert fit.is_certified
    assert fit.certificate.n_starts_agree > 1


def test_the_rise_above_a_minimum_is_that_of_the_additive_law():
    """Over budgets and four octaves of size; h itself at g = 0 is a parabola."""
    law, p = law_named("additive"), np.array([1.69, 406.4, 410.7, 0.4, 0.2])
    alpha, beta, a, g = 0.4, 0.2, 1 / 3, 0.4 * 0.2 / 0.6
    C, z = np.array([1e18, 1e21])[:, None], np.linspace(-2.8, 2.8, 57)
    best = optimal_params(p, C)
    least = law.loss(p, best, C / 6 / best)
    risen = law.loss(p, best * np.exp(z), C / 6 / best / np.exp(z)) - least
    assert alpha * beta * (least - p[0]) * excess(z, a, g) == pytest.approx(risen, rel=1e-9)
    assert excess(z, a, 0.0) == pytest.approx(z**2 / 2, rel=1e-12)


def test_scipy_finds_no_better_place(planted_named):
    """Least squares of all parameters at once, in nats, with the weights of the fit."""
    from scipy.optimize import least_squares

    runs = planted_named("chinchilla").runs(sd=0.01, seed=4)
    budgets, label = np.unique(runs.budget, return_inverse=True)
    scale = np.log(budgets) - np.log(budgets).mean()
    found = fit_joint(runs.n_params, label, scale, runs.loss_nats)
    x = np.log(runs.n_params) - found.mean

    def misfit(v):
        place, a, g, log_kappa, *minima = v
        alpha, beta = g / a, g / (1 - a)
        z = x - place - a * scale[label]
        shape = (beta * np.expm1(-alpha * z) + alpha * np.expm1(beta * z)) / (alpha + beta)
        rise = np.exp(log_kappa - g * scale[label]) * shape / (alpha * beta)
        return np.sqrt(found.weights) * (np.array(minima)[label] + rise - runs.loss_nats)

    least = [runs.loss_nats[label == i].min() for i in range(len(budgets))]
    other = least_squares(misfit, [0.0, 0.5, 0.1, -2.0, *least], xtol=1e-14, ftol=1e-14, gtol=1e-14)
    assert found.best.theta[0] == pytest.approx(other.x[:3], abs=1e-5)
    assert found.best.minima[0] == pytest.approx(other.x[4:], abs=1e-6)
    assert found.certificate.objective == pytest.approx(other.cost, rel=1e-9)


def test_weights_follow_noise_that_grows_with_the_loss():
    """Fivefold noise at the smallest budget: weights differ by less than its square, and differ."""
    runs = parabolic_runs()
    sds = np.repeat([0.02, 0.012, 0.007, 0.004], len(SHAPE))
    noise = sds * np.random.default_rng(5).standard_normal(len(runs))
    label = np.repeat(np.arange(4), len(SHAPE))
    scale = np.log(BUDGETS) - np.log(BUDGETS).mean()
    found = fit_joint(runs.n_params, label, scale, runs.loss_nats * np.exp(noise))
    weights = [found.weights[label == i].mean() for i in range(4)]
    assert 4 < weights[3] / weights[0] < 50


@pytest.mark.slow(reason="7 s each; make bench-coverage holds thousands")
@pytest.mark.parametrize("name", ["quickstart", "asymmetric"])
def test_noisy_exponent_of_the_truth_lies_within_its_interval(planted_named, name):
    problem = planted_named(name)
    truth = fit_isoflop(problem.runs(), n_bootstrap=0).exponent_a
    hits = 0
    for seed in range(40):
        fit = fit_isoflop(problem.runs(sd=0.005, seed=seed), n_bootstrap=79)
        interval = fit.intervals["exponent_a"]
        hits += interval.lower <= truth <= interval.upper
    # 95 % of 40 is 38 +- 1.4.
    assert hits >= 34


def test_every_budget_is_answered_and_those_beyond_their_sizes_certify_nothing():
    fit = fit_isoflop(parabolic_runs(shift=[1, 1, 1, 12.0]), n_bootstrap=20)
    assert [optimum.reason for optimum in fit.optima] == ["", "", "", ""]
    assert fit.exponent_a == pytest.approx(0.45, abs=1e-7)
    assert fit.status is FitStatus.TOO_FEW_POINTS
    assert ["not one size inside" in optimum.note for optimum in fit.optima] == [0, 0, 0, 1]
    assert any("N* is not one size inside the sizes at 1e20 FLOPs" in f for f in fit.findings)
    assert Fit.from_json(fit.to_json()).to_json() == fit.to_json()


def test_a_budget_of_two_sizes_weighs_and_one_of_one_size_is_left_out():
    runs, place = parabolic_runs(sd=0.003), np.arange(28) % 7
    two = runs.select((runs.budget != 1e19) | np.isin(place, [2, 5]))
    fit = fit_isoflop(two, n_bootstrap=0)
    assert not fit.left_out
    assert not fit.optima[2].own_curve
    assert fit.status is FitStatus.TOO_FEW_POINTS, "three budgets with a parabola"
    without = fit_isoflop(two.select(two.budget != 1e19), n_bootstrap=0)
    assert 1e-6 < abs(fit.exponent_a - without.exponent_a) < 0.02
    one = fit_isoflop(runs.select((runs.budget != 1e19) | (place == 3)), n_bootstrap=0)
    assert set(one.left_out.values()) == {"budget 1e19 FLOPs: its runs have one size"}
    assert one.exponent_a == pytest.approx(without.exponent_a, abs=1e-12)
    assert np.isnan(one.optima[2].n_params_opt)


def test_curves_that_are_not_resolved_are_not_certified():
    fit = fit_isoflop(parabolic_runs(curvature=0.002, sd=0.01, seed=6), n_bootstrap=20)
    assert fit.status is not FitStatus.CONVERGED
    assert any("the curvature is not resolved from 0" in f for f in fit.findings)


def test_downward_curves_are_refused():
    with pytest.raises(FitError, match="open downward"):
        fit_isoflop(parabolic_runs(curvature=-0.01))


def test_one_budget_and_too_few_runs_are_refused():
    runs = parabolic_runs()
    with pytest.raises(FitError, match="at least two budgets"):
        fit_isoflop(runs.select(runs.budget == 1e18))
    with pytest.raises(FitError, match="1 of 4 budgets have enough runs"):
        fit_isoflop(runs.select((runs.budget == 1e18) | (np.arange(28) % 7 < 3)))


@pytest.mark.parametrize("fit", [fit_isoflop, fit_per_budget])
def test_budgets_that_rounding_tells_apart_are_counted_and_the_way_out_is_named(fit):
    runs = parabolic_runs(sd=0.002)
    rounded = replace(runs, budget=runs.budget * np.linspace(1.0, 1.004, len(runs)))
    with pytest.raises(FitError, match=r"--columns budget=COLUMN\.$") as told:
        fit(rounded)
    assert "0 of 28 budgets" in str(told.value)
    assert "; and 25 more)" in str(told.value)
    assert len(str(told.value)) < 500
    assert "--columns" not in str(_refusal(fit, runs.select(np.arange(28) % 7 < 3)))


def _refusal(fit, runs):
    with pytest.raises(FitError) as told:
        fit(runs)
    return told.value


@pytest.mark.parametrize(("moved", "is_said"), [([0, 0, 0, 0], False), ([0.3, -0.3] * 2, True)])
def test_optima_of_single_budgets_that_follow_no_power_law_are_told(moved, is_said):
    fit = fit_isoflop(parabolic_runs(moved=np.array(moved), sd=0.002), n_bootstrap=0)
    assert any("depart from power laws" in f for f in fit.findings) == is_said


def test_where_budgets_wander_intervals_are_those_of_a_line_through_them():
    """Runs tell each optimum to 0.01, and the optima lie 0.1 about their line."""
    moved = np.array([0.1, -0.12, 0.07, -0.03])
    fit = fit_isoflop(parabolic_runs(moved=moved, sd=3e-4), n_bootstrap=400)
    x, y = np.log(BUDGETS), 0.45 * np.log(BUDGETS) + moved
    line = linregress(x, y)
    half = float(student.ppf(0.975, len(x) - 2)) * line.stderr
    found = fit.intervals["exponent_a"]
    # Somewhat wider, for curvatures wander with the optima; without either it is 0.03.
    assert 0.9 < (found.upper - found.lower) / (2 * half) < 1.5
    assert "wanders by 0.1" in " ".join(fit.findings)


def test_curves_drawn_pass_through_the_runs_and_their_minima():
    fit = fit_isoflop(parabolic_runs(), n_bootstrap=0)
    for optimum in fit.optima:
        here = fit.runs.budget == optimum.budget
        for kind, curve in (("joint", optimum.curve), ("parabola", optimum.own_curve)):
            drawn = value_at(kind, curve, np.log(fit.runs.n_params[here]))
            assert drawn == pytest.approx(fit.runs.loss_nats[here], abs=1e-7)
        least = value_at("joint", optimum.curve, np.log(optimum.n_params_opt))
        assert least == pytest.approx(optimum.loss_opt, abs=1e-9)


def test_tokens_from_their_own_curves_need_no_flop_convention():
    """N* ~ C^0.45 and D* ~ C^0.62: no ladder of sizes explains the budgets."""
    runs = parabolic_runs(shift=1.3)
    more = replace(
        runs, n_tokens=runs.n_tokens * (runs.budget / 1e18) ** 0.07, flops_convention="matmul_full"
    )
    fit = fit_isoflop(more, tokens="curve", n_bootstrap=20)
    assert (fit.exponent_a, fit.exponent_b) == pytest.approx((0.45, 0.62), abs=1e-6)
    with pytest.raises(ValueError, match="unknown tokens='x'"):
        fit_isoflop(more, tokens="x")
