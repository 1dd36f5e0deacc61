# SPDX-License-Identifier: Apache-2.0
"""Planted basins: the optimum and what the factor 1 costs must come back."""

import math

import numpy as np
import pytest

from scaling.hyperparameters.learning_rate_basins import fit_basins
from scaling.plots.learning_rate_basins import Line, figure_basins

RATES = 2.0 ** np.arange(-3, 4)


def losses(best: float, *, depth: float = 0.05, tilt: float = 0.0, floor: float = 2.0):
    """floor + depth t^2 + tilt t^3 with t = ln(rate / best); its minimum is at ``best``."""
    t = np.log(RATES / best)
    return floor + depth * t**2 + tilt * t**3


@pytest.mark.parametrize("tilt", [0.0, -0.005])
@pytest.mark.parametrize("best", [0.6, 1.0, 1.7])
def test_a_planted_optimum_and_its_cost_come_back(best, tilt):
    (found,) = fit_basins([(RATES, losses(best, tilt=tilt)[None])])
    t = math.log(1 / best)
    assert found.best == pytest.approx(best, rel=1e-6)
    assert found.best_loss == pytest.approx(2.0, abs=1e-9)
    assert found.cost_nats == pytest.approx(0.05 * t**2 + tilt * t**3, abs=1e-9)
    assert found.reason == ""


def test_a_seed_that_is_worse_at_every_rate_moves_nothing():
    both = np.stack([losses(1.7), losses(1.7) + 0.3])
    (found,) = fit_basins([(RATES, both)])
    assert found.best == pytest.approx(1.7, rel=1e-6)
    assert found.cost_interval.upper - found.cost_interval.lower < 1e-9


@pytest.mark.slow(reason="simulated coverage")
def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    bests, n_draws = (0.7, 1.0, 1.5), 150
    hits = np.zeros(2)
    for _ in range(n_draws):
        noisy = [losses(b, tilt=-0.004) + 0.004 * rng.standard_normal((2, 7)) for b in bests]
        for best, found in zip(bests, fit_basins([(RATES, of) for of in noisy]), strict=True):
            t = math.log(1 / best)
            cost = 0.05 * t**2 - 0.004 * t**3
            rate, nats = found.best_interval, found.cost_interval
            hits += rate.lower <= best <= rate.upper, nats.lower <= cost <= nats.upper
    share = hits / (n_draws * len(bests))
    # 450 intervals, of which three share a scatter: four standard errors are less than 0.06.
    assert np.all((share > 0.89) & (share <= 1.0)), share


def test_a_curve_that_levels_off_far_from_its_minimum_has_no_second_one_there():
    """Measured: a cubic through the first is flat about factor 4, .07 nats above its minimum."""
    levels = np.array([2.678, 2.510, 2.410, 2.400, 2.424, 2.466, 2.639])
    noisy = np.array([2.787, 2.646, 2.557, 2.539, 2.534, 2.628, 2.721])
    # Three of the noisy one: with few degrees of freedom nothing at all would be told.
    found, *_ = fit_basins([(RATES, of[None]) for of in (levels, noisy, noisy, noisy)])
    assert found.best == pytest.approx(0.84, abs=0.02)
    assert found.best_interval.upper < 2
    assert found.is_open == (False, False)


def test_a_basin_that_is_lowest_at_an_end_says_where_to_look():
    (found,) = fit_basins([(RATES, losses(30.0)[None])])
    assert found.curve is None
    assert "factor 8: try larger rates" in found.reason
    lowest = losses(30.0)[-1]
    assert found.cost_nats == pytest.approx(losses(30.0)[3] - lowest)
    (found,) = fit_basins([(RATES, losses(0.01)[None])])
    assert "factor 0.125: try smaller rates" in found.reason


def test_rates_that_diverged_are_left_out():
    some = losses(0.8)
    some[-1] = np.nan
    (found,) = fit_basins([(RATES, np.stack([some, losses(0.8)]))])
    assert found.best == pytest.approx(0.8, rel=1e-6)
    assert np.isnan(found.losses[-1])


def test_a_recipe_whose_own_rate_diverged_has_no_cost():
    some = losses(0.9)
    some[3] = np.nan
    (found,) = fit_basins([(RATES, some[None])])
    assert found.best == pytest.approx(0.9, rel=1e-6)
    assert np.isnan(found.cost_nats)
    assert not found.cost_interval.is_known


def test_too_few_rates_give_no_curve():
    some = losses(1.0)
    some[:3] = np.nan
    (found,) = fit_basins([(RATES, some[None])])
    assert found.reason == "4 rates have a loss, 5 are needed"


def test_a_recipe_far_off_is_charged_what_was_measured():
    rates = 2.0 ** np.arange(-1, 8)
    loss = 2.0 + 0.05 * np.log(rates / 20) ** 2
    loss[1] += 0.25
    (found,) = fit_basins([(rates, loss[None])])
    assert found.cost_nats == pytest.approx(loss[1] - 2.0, abs=1e-9)
    assert not found.cost_interval.is_known


def test_the_figure_has_a_panel_per_length_and_ends_above_the_optima():
    wild = losses(1.0)
    wild[-1] = 60.0
    basins = fit_basins([(RATES, of[None]) for of in (losses(1.2), wild, losses(0.01))])
    lines = [
        Line(d_model=d, n_tokens=n, basin=basin)
        for d, n, basin in zip((16, 32, 64), (10**5,) * 3, basins, strict=True)
    ]
    figure = figure_basins([lines, lines[:1]], ["a note"])
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["100k tokens"] * 2
    assert figure.axes[0].get_ylim()[1] < 10
