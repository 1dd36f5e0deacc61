# SPDX-License-Identifier: Apache-2.0
"""What a planned grid is said to tell, against simulated fits and a condition number by hand."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import least_squares

from scaling.design.identifiability import expected_intervals
from scaling.design.prior import Prior
from scaling.laws.loss_laws import ADDITIVE
from scaling.tables.runs import Runs

BUDGETS = np.array([1e18, 1e19, 1e20, 1e21])


def grid(width, tokens_per_param=20.0):
    budget = np.repeat(BUDGETS, 7)
    N = np.sqrt(budget / 6 / tokens_per_param) * np.tile(np.geomspace(1 / width, width, 7), 4)
    return Runs.from_columns(
        n_params=N, n_tokens=budget / (6 * N), loss_nats=np.full(len(N), np.nan), budget=budget
    )


def middle(runs):
    """E, A, B, alpha, beta in the middle of what is believed beforehand."""
    prior = Prior.published(runs)
    return prior.curved(prior.mean)[:5]


def test_the_width_of_a_is_about_that_of_simulated_fits():
    """The additive form alone, by scipy: less is unknown there, for gamma is given."""
    runs, rng, found = grid(6.0), np.random.default_rng(0), []
    theta = middle(runs)
    scale = np.array([1.0, theta[1], theta[2], 1.0, 1.0])
    clean = np.log(ADDITIVE.loss(theta, runs.n_params, runs.n_tokens))

    def residuals(free, y):
        return np.log(ADDITIVE.loss(free * scale, runs.n_params, runs.n_tokens)) - y

    for _ in range(60):
        noisy = clean + 0.01 * rng.standard_normal(len(runs))
        free = least_squares(
            residuals, theta / scale, args=(noisy,), x_scale="jac", bounds=(1e-9, np.inf)
        ).x
        found.append(free[4] / (free[3] + free[4]))
    said = expected_intervals(runs, 1e22).exponent_a
    assert 1.0 < said / (1.96 * np.std(found)) < 3.0


def test_the_condition_is_that_of_numerical_slopes():
    runs = grid(3.0)
    theta, steps = middle(runs), 1e-5 * np.eye(5)
    # E and the two terms at the middle by their logarithms, alpha and beta as they are.
    log_n, log_d = np.log(runs.n_params).mean(), np.log(runs.n_tokens).mean()

    def log_loss(change):
        alpha, beta = theta[3] + change[3], theta[4] + change[4]
        A = theta[1] * np.exp(change[1] + change[3] * log_n)
        B = theta[2] * np.exp(change[2] + change[4] * log_d)
        moved = (theta[0] * np.exp(change[0]), A, B, alpha, beta)
        return np.log(ADDITIVE.loss(moved, runs.n_params, runs.n_tokens))

    slopes = np.stack([(log_loss(s) - log_loss(-s)) / 2e-5 for s in steps], axis=1)
    correlation = (slopes / np.linalg.norm(slopes, axis=0)).T @ (
        slopes / np.linalg.norm(slopes, axis=0)
    )
    said = expected_intervals(runs, 1e22)
    assert said.condition == pytest.approx(np.linalg.cond(correlation), rel=1e-4)
    assert said.tokens_per_param == pytest.approx((20 / 9, 180))


def test_a_grid_on_one_ray_is_said_to_tell_little():
    wide, ray = (expected_intervals(grid(width), 1e22) for width in (6.0, 1.02))
    assert wide.findings == ()
    assert "of the exponent a and N* at 1e22 FLOPs these runs tell little" in ray.findings[0]
    assert "ask for sizes further apart" in ray.findings[1]
    assert ray.condition > 100 * wide.condition
    assert ray.exponent_a > 3 * wide.exponent_a
    nothing = dataclasses.replace(ray, log_n_params=np.log(222046.42))
    assert "N* within x2.22e5 and" in nothing.sentence
