# SPDX-License-Identifier: Apache-2.0
"""Epoch's 240 points against minima, draws and a likelihood computed without the package."""

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import erf

from scaling.published import chinchilla, chinchilla_bootstrap
from scaling.published.tables import minimum, read_table, select
from scaling.solve.replicates import replicate

# Newton's method with 40 digits on the same rows: E, A, B, alpha, beta.
EXACT = (1.8172180990101, 477.82586823391, 2143.4173633605, 0.34731049888175, 0.36717243262776)
# The only one of the 4,000 replicates with a minimum below the one nearest to the estimate.
TWO_MINIMA = 3178


@pytest.fixture(scope="module")
def table(request):
    from scaling.published.case import TABLES

    everything = read_table(TABLES / chinchilla.TABLE)
    return select(everything, everything["fit_240"] == 1)


@pytest.fixture(scope="module")
def huber(table):
    return minimum(table)


def log_residuals(table, parameters):
    E, A, B, alpha, beta = parameters
    predicted = E + A / table["n_params"] ** alpha + B / table["n_tokens"] ** beta
    return np.log(table["loss_nats"]) - np.log(predicted)


def huber_sum(residuals, weights=1.0, delta=1e-3):
    size = np.abs(residuals)
    inside = size <= delta
    return np.sum(weights * np.where(inside, 0.5 * size**2, delta * (size - 0.5 * delta)))


def test_the_minimum_is_exact_to_ten_digits(huber):
    np.testing.assert_allclose(huber.parameters, EXACT, rtol=1e-10)
    assert huber.certificate.objective <= 0.001018274017801 + 5e-16


def test_the_objective_is_the_sum_of_hubers_loss(table, huber):
    own = huber_sum(log_residuals(table, huber.parameters))
    assert huber.certificate.objective == pytest.approx(own, rel=1e-12)


def test_resamples_are_those_of_numpys_global_generator(table):
    rows = np.flatnonzero(np.arange(245) >= 5)  # Any 240 labels: only their order enters.
    np.random.seed(42)  # noqa: NPY002
    drawn = [np.random.choice(rows, size=240, replace=True) for _ in range(3)]  # noqa: NPY002
    weights = chinchilla_bootstrap.epoch_weights(240, 3)
    for picks, row in zip(drawn, weights, strict=True):
        np.testing.assert_array_equal(np.bincount(picks - 5, minlength=240), row)


def test_no_minimiser_finds_a_lower_replicate(table, huber):
    drawn = chinchilla_bootstrap.resample(huber, n_replicates=4, n_starts=2)
    weights = chinchilla_bootstrap.epoch_weights(240, 4)
    assert drawn.one.is_certified.all()
    for w, parameters, own in zip(weights, drawn.parameters, drawn.several.objective, strict=True):
        scale = np.array([1, 1, 1, 0.1, 0.1])
        theta = np.r_[np.log(parameters[:3]), parameters[3:]]

        def value(z, w=w, scale=scale, theta=theta):
            at = theta + scale * z
            return 1e4 * huber_sum(log_residuals(table, (*np.exp(at[:3]), *at[3:])), w)

        rival = minimize(value, np.full(5, 0.02), method="Nelder-Mead", options={"maxiter": 3000})
        assert own <= rival.fun / 1e4 * (1 + 1e-9)


def test_a_replicate_with_two_minima_gets_the_lower_one(huber):
    weights = chinchilla_bootstrap.epoch_weights(240, TWO_MINIMA + 1)[TWO_MINIMA:]
    y = huber.problem.y[None]
    near = replicate(huber, y, weights, n_starts=1)
    lowest = replicate(huber, y, weights, n_starts=chinchilla_bootstrap.N_STARTS)
    assert lowest.objective[0] < near.objective[0] * (1 - 5e-4)
    assert huber.parameters_of(lowest.z)[0, 2] == pytest.approx(17776.6, rel=1e-4)


def test_the_likelihood_ratio_is_that_of_hubers_density_with_a_fitted_scale(table):
    """Besiroglu et al.: density of Huber's loss, delta = 1e-3 in units of the scale."""
    delta = 1e-3
    log_norm = np.log(
        np.sqrt(2 * np.pi) * erf(delta / np.sqrt(2)) + 2 / delta * np.exp(-(delta**2) / 2)
    )

    def best_scale(parameters):
        residuals = log_residuals(table, parameters)

        def negative(log_scale):
            return huber_sum(residuals / np.exp(log_scale)) + 240 * (log_scale + log_norm)

        found = minimize_scalar(negative, bounds=(-20, 0), method="bounded")
        return found.fun

    lad = minimum(table, objective="lad")
    ours = chinchilla.likelihood_ratio(lad, chinchilla.HOFFMANN)
    theirs = 2 * (best_scale(chinchilla.HOFFMANN) - best_scale(lad.parameters))
    assert ours == pytest.approx(theirs, abs=0.01)
    assert ours == pytest.approx(84.00, abs=0.005)
