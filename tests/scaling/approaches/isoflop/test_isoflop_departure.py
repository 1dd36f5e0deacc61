# SPDX-License-Identifier: Apache-2.0
"""Budgets that depart from the joint law: when it is shown, by how much, what draws make of it."""

import numpy as np
import pytest
from scipy.stats import f_oneway

from scaling.approaches.isoflop.departure import departure

BUDGETS, RUNS = 9, 8
LABEL = np.repeat(np.arange(BUDGETS), RUNS)
X = np.tile(np.linspace(-2.0, 2.0, RUNS), BUDGETS)
SCALE = np.linspace(-2.0, 2.0, BUDGETS)[LABEL]


def slopes():
    """Of z^2 kappa about a line of optima: by kappa, x*, a, g and the minima, at kappa = 1."""
    is_at = (LABEL[:, None] == np.arange(BUDGETS)).astype(float)
    return np.column_stack([X**2, -2 * X, -2 * X * SCALE, -(X**2) * SCALE, is_at])


def moved(rng, place=0.0, bend=0.0, sd=0.01):
    of_places, of_bends = rng.standard_normal((2, BUDGETS))[:, LABEL]
    noise = sd * rng.standard_normal(len(LABEL))
    return place * of_places * slopes()[:, 1] + bend * of_bends * slopes()[:, 0] + noise


def test_the_spread_between_budgets_is_that_which_was_planted():
    rng = np.random.default_rng(0)
    found = [departure(moved(rng, 0.3, 0.1), slopes(), LABEL) for _ in range(300)]
    assert all(one is not None and one.chance < 0.01 for one in found)
    # Of 300 variances with 7 degrees of freedom: a standard error of 3 %.
    assert np.mean([one.place_sd**2 for one in found]) == pytest.approx(0.09, rel=0.1)
    assert np.mean([one.curvature_sd**2 for one in found]) == pytest.approx(0.01, rel=0.1)
    alone = [departure(moved(rng, 0.3), slopes(), LABEL) for _ in range(100)]
    assert np.mean([one.curvature_sd**2 for one in alone]) < 2e-5


def test_where_there_is_none_it_is_shown_as_rarely_as_it_should():
    rng = np.random.default_rng(1)
    shown = [departure(moved(rng), slopes(), LABEL) is not None for _ in range(2000)]
    assert 0.035 < np.mean(shown) < 0.065


def test_the_chance_is_that_of_the_analysis_of_variance():
    """Where nothing has a slope but one mean, shifts of budgets are the means of groups."""
    rng = np.random.default_rng(2)
    design = np.column_stack([np.zeros(len(LABEL)), np.ones(len(LABEL))])
    y = 0.01 * rng.standard_normal(len(LABEL)) + 0.02 * rng.standard_normal(BUDGETS)[LABEL]
    found = departure(y, design, LABEL)
    theirs = f_oneway(*(y[i == LABEL] for i in range(BUDGETS)))
    assert found.ratio == pytest.approx(theirs.statistic, rel=1e-9)
    assert found.chance == pytest.approx(theirs.pvalue, rel=1e-6)
    assert found.n_absorbed == BUDGETS
    # (mean square between - mean square within) / runs of a budget.
    within = np.mean([np.var(y[i == LABEL], ddof=1) for i in range(BUDGETS)])
    between = within * (theirs.statistic - 1) / RUNS
    assert found.place_sd**2 == pytest.approx(between, rel=1e-9)
    means = np.array([y[i == LABEL].mean() for i in range(BUDGETS)])
    np.testing.assert_allclose(found.residuals, y - means[LABEL], atol=1e-12)


def test_draws_scatter_the_exponent_as_a_line_through_budgets_does():
    rng = np.random.default_rng(3)
    found = departure(moved(rng, 0.3, 0.0, 1e-4), slopes(), LABEL)
    drawn = found.draws(slopes(), LABEL, 4000, rng)
    a = np.linalg.lstsq(slopes(), drawn.T)[0][2]
    # Slope of one line through places with the planted spread; t of 7 degrees of freedom.
    line = found.place_sd / np.sqrt(np.sum(np.linspace(-2, 2, BUDGETS) ** 2))
    assert np.std(a) == pytest.approx(line * np.sqrt(7 / 5), rel=0.05)


def test_of_two_budgets_curvatures_alone_can_depart():
    """A line goes through two optima; of one curvature in common two may differ."""
    label = np.repeat([0, 1], RUNS)
    x = np.tile(np.linspace(-2.0, 2.0, RUNS), 2)
    is_at = (label[:, None] == np.arange(2)).astype(float)
    design = np.column_stack([x**2, -2 * x, -2 * x * (2.0 * label - 1), is_at])
    rng = np.random.default_rng(4)
    bends = 0.1 * np.array([1.0, -1.0])[label] * x**2
    found = departure(bends + 1e-3 * rng.standard_normal(len(label)), design, label)
    assert (found.place_sd, found.curvature_sd) == (0.0, pytest.approx(0.14, rel=0.1))
    assert np.all(np.isfinite(found.draws(design, label, 100, rng)))
