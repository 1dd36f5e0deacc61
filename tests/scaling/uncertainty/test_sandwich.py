# SPDX-License-Identifier: Apache-2.0
"""The covariance of very many runs against identities, White's formula and resampling."""

import numpy as np
import pytest

from scaling.approaches.surface.fit import fit_surface
from scaling.laws.loss_laws import ADDITIVE
from scaling.tables.runs import Runs
from scaling.uncertainty import sandwich
from scaling.uncertainty.sandwich import normal_draws, sandwich_covariance

THETA = (1.69, 406.4, 410.7, 0.34, 0.28)


def runs(n, cluster_id=None):
    rng = np.random.default_rng(1)
    N, D = np.exp(rng.uniform(np.log(1e7), np.log(1e10), (2, n)) + np.array([[0.0], [4.0]]))
    loss = ADDITIVE.loss(THETA, N, D) * np.exp(0.005 * rng.standard_normal(n))
    return Runs.from_columns(n_params=N, n_tokens=D, loss_nats=loss, cluster_id=cluster_id)


@pytest.fixture
def linear():
    """Slopes and residuals of a straight line whose noise grows."""
    x = np.linspace(0.0, 1.0, 40)
    slopes = np.stack([np.ones(40), x], axis=1)
    return slopes, (0.1 + x) * np.random.default_rng(0).standard_normal(40)


def test_of_least_squares_it_is_whites(linear):
    slopes, residuals = linear
    found = sandwich_covariance(residuals, slopes, np.arange(40), np.inf)
    bread = np.linalg.inv(slopes.T @ slopes)
    np.testing.assert_allclose(
        found, bread @ slopes.T @ np.diag(residuals**2) @ slopes @ bread, rtol=1e-12
    )


def test_a_run_that_is_written_three_times_counts_once(linear):
    slopes, residuals = linear
    labels, three = np.arange(40), np.repeat(np.arange(40), 3)
    once = sandwich_covariance(residuals, slopes, labels, 0.3)
    thrice = sandwich_covariance(residuals[three], slopes[three], labels[three], 0.3)
    np.testing.assert_allclose(thrice, once, rtol=1e-12)
    alone = sandwich_covariance(residuals[three], slopes[three], np.arange(120), 0.3)
    np.testing.assert_allclose(alone, once / 3, rtol=1e-12)


def test_a_weight_of_three_is_the_run_written_three_times(linear):
    slopes, residuals = linear
    copies = np.arange(40) % 3 + 1
    rows = np.repeat(np.arange(40), copies)
    weighted = sandwich_covariance(residuals, slopes, np.arange(40), 0.3, copies.astype(float))
    written = sandwich_covariance(residuals[rows], slopes[rows], rows, 0.3)
    np.testing.assert_allclose(weighted, written, rtol=1e-12)


def test_draws_have_the_covariance():
    covariance = np.array([[4.0, -1.9e-3], [-1.9e-3, 1e-6]])
    drawn = normal_draws(np.array([1.0, 2.0]), covariance, 200_000, np.random.default_rng(0))
    np.testing.assert_allclose(np.cov(drawn.T), covariance, rtol=0.02)
    np.testing.assert_allclose(drawn.mean(axis=0), [1.0, 2.0], atol=0.02)


def test_it_is_as_wide_as_resampling():
    table = runs(1500)
    settings = {"objective": "huber:5e-3", "n_bootstrap": 300, "replicate_starts": 1}
    drawn, resampled = (
        fit_surface(table, bootstrap=method, **settings) for method in ("sandwich", "pairs")
    )
    assert drawn.bootstrap.method == "sandwich"
    for name in (*ADDITIVE.names, "exponent_a"):
        ratio = np.std(drawn.replicates[name]) / np.std(resampled.replicates[name])
        assert ratio == pytest.approx(1.0, abs=0.2), name  # Of 300 draws each: sd 0.06.


def test_a_thousand_clusters_per_parameter_are_very_many():
    table = runs(5000)
    assert sandwich.are_very_many(table, 5)
    assert not sandwich.are_very_many(table, 6)
    assert not sandwich.are_very_many(runs(5000, cluster_id=np.arange(5000) // 2), 5)


def test_very_many_runs_take_it_and_hold_the_truth(monkeypatch):
    """A hundred per parameter, for a fit of thousands takes long."""
    monkeypatch.setattr(sandwich, "_PER_PARAMETER", 100)
    fit = fit_surface(runs(600), n_bootstrap=500)
    assert fit.bootstrap.method == "sandwich"
    assert fit.is_certified
    for name, value in zip(ADDITIVE.names, THETA, strict=True):
        assert fit.intervals[name].lower < value < fit.intervals[name].upper
    few = fit_surface(runs(600, cluster_id=np.arange(600) // 4), n_bootstrap=0)
    assert few.bootstrap.method == "pairs"


def test_objectives_with_kinks_are_refused():
    with pytest.raises(ValueError, match="sandwich: for huber and least_squares"):
        fit_surface(runs(50), objective="lad", bootstrap="sandwich", n_bootstrap=8)
