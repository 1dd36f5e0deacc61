# SPDX-License-Identifier: Apache-2.0
"""Task error from loss: formulas, and a planted chain of two laws."""

import math
from dataclasses import replace

import numpy as np
import pytest

from scaling.answers.task_error import forecast_task
from scaling.approaches.surface.fit import fit_surface
from scaling.laws.error_laws import ERROR_EXPONENTIAL, ERROR_SIGMOID

ERROR = "mean_error"
TRUTH = (0.86, 2.2, 0.7)
LARGE = (7e10, 1.4e12)


def error_of(loss):
    eps, k, gamma = TRUTH
    return eps - k * np.exp(-gamma * loss)


@pytest.fixture(scope="module")
def study():
    """Surface and error law of one noisy study, and the true loss of a large run."""
    from scaling.tables.runs import Runs

    rng = np.random.default_rng(7)
    N, D = (v.ravel() for v in np.meshgrid(np.geomspace(1e7, 1e9, 6), np.geomspace(1e9, 1e11, 6)))
    loss = lambda N, D: 1.69 + 406.4 / N**0.34 + 410.7 / D**0.28  # noqa: E731
    seen = loss(N, D) * np.exp(0.001 * rng.standard_normal(36))
    runs = replace(
        Runs.from_columns(n_params=N, n_tokens=D, loss_nats=seen),
        extra={ERROR: error_of(seen) + 0.0005 * rng.standard_normal(36)},
    )
    law = f"error_exponential:{ERROR}"
    surface, errors = (fit_surface(runs, x, n_bootstrap=150) for x in ("additive", law))
    return surface, errors, float(loss(*LARGE))


@pytest.mark.parametrize(
    ("law", "parameters", "expected"),
    [
        (ERROR_EXPONENTIAL, (0.9, 2.0, 0.5), 0.9 - 2 * math.exp(-1.5)),
        (ERROR_SIGMOID, (0.2, 0.6, 2.0, 2.5), 0.2 + 0.6 / (1 + math.exp(-1.0))),
        (ERROR_SIGMOID, (0.2, 0.6, 2.0, 3.0), 0.5),
    ],
)
def test_error_laws_follow_their_formulas(law, parameters, expected):
    assert law.predict(parameters, {"loss_nats": [3.0]})[0] == pytest.approx(expected, rel=1e-12)


def test_a_planted_chain_is_forecast_with_its_interval(study):
    surface, errors, true_loss = study
    cast = forecast_task(surface, errors, n_params=LARGE[0], n_tokens=LARGE[1])
    assert cast.task_error == pytest.approx(error_of(true_loss), rel=0.02)
    assert cast.interval_loss.lower < true_loss < cast.interval_loss.upper
    assert cast.interval_error.lower < error_of(true_loss) < cast.interval_error.upper


def test_each_replicate_of_the_loss_goes_through_its_own_error_law(study):
    surface, errors, _ = study
    drawn = []
    for r in range(150):
        E, A, B, alpha, beta = (surface.replicates[n][r] for n in ("E", "A", "B", "alpha", "beta"))
        eps, k, gamma = (errors.replicates[n][r] for n in ("eps", "k", "gamma"))
        loss = E + A / LARGE[0] ** alpha + B / LARGE[1] ** beta
        drawn.append(eps - k * math.exp(-gamma * loss))
    lower, upper = np.quantile(drawn, (0.025, 0.975))
    cast = forecast_task(surface, errors, n_params=LARGE[0], n_tokens=LARGE[1])
    assert cast.interval_error.lower == pytest.approx(lower, rel=1e-9)
    assert cast.interval_error.upper == pytest.approx(upper, rel=1e-9)


def test_fits_of_another_kind_are_refused(study):
    surface, errors, _ = study
    with pytest.raises(ValueError, match="needs a loss surface and a law of loss_nats"):
        forecast_task(errors, surface, n_params=1e9, n_tokens=1e10)


def test_levels_that_differ_are_refused(study):
    surface, errors, _ = study
    other = replace(errors, bootstrap=replace(errors.bootstrap, level=0.8))
    with pytest.raises(ValueError, match=r"0.95 intervals and the error law 0.8"):
        forecast_task(surface, other, n_params=1e9, n_tokens=1e10)
