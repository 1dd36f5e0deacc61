# SPDX-License-Identifier: Apache-2.0
"""Frontiers, forecasts and agreement, from fits of planted laws."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from scaling.answers.agreement import agreement
from scaling.answers.frontier import frontier
from scaling.answers.loss_forecast import (
    average_loss,
    choose_forecaster,
    loss_quantiles,
    predict_loss,
)
from scaling.approaches.isoflop.fit import fit_isoflop
from scaling.approaches.power_laws import power_laws
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import Fit, FitError, FitStatus
from scaling.intervals import Interval
from scaling.laws.closed_form_optimum import optimal_params
from scaling.laws.registry import law_named
from scaling.tables.runs import Runs

BUDGETS = np.array([1e18, 1e19, 1e20])


TRUTH = (0.86, 66.0, 124.0, 0.50, 0.41)
SD = 0.01


def noisy_runs(seed):
    """Four budgets, six sizes, two repeats; normal noise of SD nats."""
    rng = np.random.default_rng(seed)
    budget = np.repeat([1e11, 3e11, 1e12, 3e12], 12)
    N = optimal_params(TRUTH, budget) * np.tile(np.repeat(np.geomspace(0.3, 4, 6), 2), 4)
    D = budget / (6 * N)
    loss = law_named("additive").loss(TRUTH, N, D) + SD * rng.standard_normal(len(N))
    return Runs.from_columns(n_params=N, n_tokens=D, loss_nats=loss, budget=budget)


@pytest.fixture(scope="module")
def noisy():
    runs = noisy_runs(5)
    return SimpleNamespace(surface=fit_surface(runs, n_bootstrap=150), isoflop=fit_isoflop(runs))


def test_noise_free_frontier_is_the_closed_form(planted_named):
    fit = fit_surface(planted_named("chinchilla").runs(), n_bootstrap=0)
    front = frontier(fit, BUDGETS)
    truth = optimal_params(planted_named("chinchilla").parameters, BUDGETS)
    np.testing.assert_allclose(front.n_params_opt.value, truth, rtol=1e-5)
    spent = 6 * front.n_params_opt.value * front.n_tokens_opt.value
    np.testing.assert_allclose(spent, BUDGETS, rtol=1e-12)
    np.testing.assert_allclose(front.exponent_a, 0.28 / 0.62, rtol=1e-4)
    np.testing.assert_allclose(front.exponent_a + front.exponent_b, 1.0, rtol=1e-9)
    expected = law_named("additive").loss(
        planted_named("chinchilla").parameters, truth, BUDGETS / 6 / truth
    )
    np.testing.assert_allclose(front.loss_opt.value, expected, rtol=1e-8)


def test_no_size_beats_the_frontier(planted_named):
    """Under a convention that is not 6ND, with the costs that were planted."""
    problem = planted_named("quickstart")
    front = frontier(fit_surface(problem.runs(), n_bootstrap=0), [3e11])
    N = np.geomspace(1e4, 1e6, 20001)
    D = 3e11 / problem.flops_per_token(N)
    loss = law_named("additive").loss(problem.parameters, N, D)
    assert front.loss_opt.value[0] == pytest.approx(loss.min(), rel=1e-4)
    assert front.n_params_opt.value[0] == pytest.approx(N[np.argmin(loss)], rel=0.02)


def test_extrapolation_is_marked_and_said(noisy):
    front = frontier(noisy.surface, [1e11, 1e12, 1e13])
    assert front.is_extrapolated.tolist() == [False, False, True]
    assert any("extrapolation" in sentence for sentence in front.findings)


def test_bands_contain_the_truth_and_widen_beyond_the_data(noisy):
    front = frontier(noisy.surface, [1e12, 1e14])
    truth = optimal_params(TRUTH, [1e12, 1e14])
    band = front.n_params_opt
    assert np.all((band.lower < truth) & (truth < band.upper))
    width = np.log(band.upper / band.lower)
    assert width[1] > 1.5 * width[0]


def test_frontier_of_power_laws_follows_its_exponents(noisy):
    front = frontier(noisy.isoflop, [1e11, 1e12])
    slope = np.diff(np.log(front.n_params_opt.value))[0] / np.log(10)
    assert slope == pytest.approx(noisy.isoflop.exponent_a, rel=1e-9)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_impossible_budget_is_refused(noisy, bad):
    with pytest.raises(ValueError, match="positive and finite"):
        frontier(noisy.surface, [bad])


def test_forecast_interval_includes_the_noise_of_one_run(noisy):
    N = float(optimal_params(TRUTH, 1e12))
    forecast = predict_loss(noisy.surface, N, 1e12 / (6 * N))
    band = frontier(noisy.surface, 1e12).loss_opt
    assert forecast.interval.upper - forecast.interval.lower > 2 * (band.upper[0] - band.lower[0])
    assert noisy.surface.noise.run_sd_nats == pytest.approx(SD, rel=0.4)


def test_forecasts_cover_new_runs():
    """Of new runs at three times the largest budget, 95 % are expected inside, over 5 studies."""
    N, D = 2e5, 1e13 / (6 * 2e5)
    truth = float(law_named("additive").loss(TRUTH, N, D))
    new = truth + SD * np.random.default_rng(9).standard_normal(500)
    inside = []
    for seed in range(5):
        ends = predict_loss(fit_surface(noisy_runs(seed), n_bootstrap=100), N, D).interval
        inside.append(np.mean((new > ends.lower) & (new < ends.upper)))
    # One study's share varies by about 0.08, the mean of five by 0.036.
    assert 0.88 < np.mean(inside) <= 1.0


def test_the_average_of_two_forms_holds_as_much_of_each(noisy):
    """Of draws that do not overlap: half of them are those of one form, half those of the other."""
    low = noisy.surface
    high = replace(
        low,
        parameters={**low.parameters, "E": low.parameters["E"] + 5.0},
        replicates={**low.replicates, "E": low.replicates["E"] + 5.0},
    )
    alone = [predict_loss(fit, 1e5, 1e7, level=0.9) for fit in (low, high)]
    found = average_loss([low, high], 1e5, 1e7, level=0.95)
    assert found.value == pytest.approx((alone[0].value + alone[1].value) / 2)
    # Of all draws a fortieth lies below, of one form's a twentieth.
    assert found.interval.lower == pytest.approx(alone[0].interval.lower, abs=2e-4)
    assert found.interval.upper == pytest.approx(alone[1].interval.upper, abs=2e-4)
    assert average_loss([low], 1e5, 1e7) == predict_loss(low, 1e5, 1e7)
    # Half of the draws are those of the lower form: the median lies between the two.
    tenth, middle = loss_quantiles([low, high], 1e5, 1e7, (0.1, 0.5))
    assert tenth == pytest.approx(predict_loss(low, 1e5, 1e7, level=0.6).interval.lower, abs=2e-4)
    assert alone[0].interval.upper < middle < alone[1].interval.lower
    lost = {name: column[:3] for name, column in high.replicates.items()}
    assert average_loss([low, replace(high, replicates=lost)], 1e5, 1e7).value == alone[0].value
    with pytest.raises(ValueError, match="one fitted surface at least"):
        average_loss([], 1e5, 1e7)


def test_power_laws_cannot_forecast_one_run(noisy):
    with pytest.raises(ValueError, match="fit a surface"):
        predict_loss(noisy.isoflop, 1e5, 1e6)


def test_curved_form_forecasts_only_where_gamma_is_resolved(noisy):
    def with_gamma(lower, upper):
        return replace(
            noisy.surface, law="curved", intervals={"gamma": Interval(lower=lower, upper=upper)}
        )

    assert choose_forecaster([noisy.surface, with_gamma(0.8, 1.3)]) is noisy.surface
    resolved = with_gamma(0.6, 0.9)
    assert choose_forecaster([noisy.surface, resolved]) is resolved
    # An interval that ends at a bound of gamma, 0.05 or 20, determines nothing.
    for ends in ((2.0, 20.0 * (1 - 1e-15)), (0.05 * (1 + 1e-15), 0.9), (math.nan, math.nan)):
        assert choose_forecaster([noisy.surface, with_gamma(*ends)]) is noisy.surface
    assert choose_forecaster([noisy.surface, high := with_gamma(2.0, 19.9)]) is high
    with pytest.raises(FitError, match="needs a fitted surface"):
        choose_forecaster([noisy.isoflop])


def test_approaches_agree_on_one_law_and_a_stranger_does_not(noisy):
    fits = [noisy.isoflop, noisy.surface]
    assert all("intervals overlap" in s for s in agreement(fits, 1e12).findings)
    far = {
        "exponent_a": Interval(lower=0.9, upper=0.95),
        "exponent_b": Interval(lower=0.0, upper=0.1),
    }
    stranger = replace(noisy.isoflop, intervals=far, status=FitStatus.TOO_FEW_POINTS)
    findings = agreement([noisy.surface, stranger], 1e12).findings
    assert "do not all overlap (surface (additive) and isoflop)" in findings[0]
    assert findings[-1] == "not certified: isoflop."


def test_json_round_trip_gives_the_same_frontier(noisy):
    for fit in (noisy.surface, noisy.isoflop):
        text = fit.to_json()
        assert "NaN" not in text
        assert "Infinity" not in text
        again = Fit.from_json(text)
        assert again.to_json() == text
        bands = [frontier(f, BUDGETS).loss_opt for f in (fit, again)]
        np.testing.assert_array_equal(bands[0].lower, bands[1].lower)


def test_other_schema_is_refused(noisy):
    text = noisy.isoflop.to_json().replace('"schema_version": 2', '"schema_version": 99')
    with pytest.raises(ValueError, match="schema_version 99"):
        Fit.from_json(text)


def test_saturating_loss_is_recovered():
    log_c = np.log(np.geomspace(1e11, 1e15, 6))
    x = log_c - log_c.mean()
    loss = (1.2 + 0.5 * np.exp(-0.15 * x))[None]
    laws = power_laws(log_c, 0.5 * log_c[None], 0.5 * log_c[None], loss)
    found = [laws[name][0] for name in ("E", "K", "c")]
    np.testing.assert_allclose(found, [1.2, 0.5, 0.15], rtol=1e-5)
