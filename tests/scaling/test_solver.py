# SPDX-License-Identifier: Apache-2.0
"""The Newton solver: exact derivatives, certificates, an independent minimiser."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from scaling.laws import LAWS, ORIGIN, Centre
from scaling.solver import Problem, best_row, certify, huber, solve


def make_problem(law, *, sd=0.01, delta=1e-3, n=60, seed=0):
    rng = np.random.default_rng(seed)
    log_n, log_d = rng.uniform(-2, 2, n), rng.uniform(-2, 2, n)
    theta = np.array([-0.5, -1.6, -1.4, 0.35, 0.3, -0.2])[: len(law.parameters)]
    log_l = law.log_loss(np, theta, log_n, log_d) + sd * rng.standard_normal(n)
    return Problem(
        law=law, log_n=log_n, log_d=log_d, log_l=log_l, weights=np.ones(n), delta=delta
    ), theta


def objective(problem, theta):
    residual = problem.log_l - problem.law.log_loss(np, theta, problem.log_n, problem.log_d)
    return float(np.sum(problem.weights * huber(np, residual, problem.delta)))


@pytest.mark.parametrize("law", LAWS.values(), ids=lambda law: law.name)
def test_derivatives_equal_central_differences(law):
    problem, theta = make_problem(law)
    at = solve(problem, theta[None] + 0.05, max_iterations=0)
    step = 1e-6
    for i in range(len(theta)):
        shift = step * np.eye(len(theta))[i]
        both = solve(problem, at.theta[0] + np.stack([shift, -shift]), max_iterations=0)
        slope = (objective(problem, both.theta[0]) - objective(problem, both.theta[1])) / (2 * step)
        assert at.gradient[0, i] == pytest.approx(slope, rel=1e-5, abs=1e-9)
        bend = (both.gradient[0] - both.gradient[1]) / (2 * step)
        np.testing.assert_allclose(at.hessian[0, i], bend, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("delta", [1e-3, 0.02, 1.0])
def test_no_minimiser_finds_a_lower_objective(delta):
    law = LAWS["additive"]
    problem, _ = make_problem(law, delta=delta)
    solutions = solve(problem, law.starts(problem.log_n, problem.log_d, problem.log_l))
    best = solutions.theta[best_row(solutions)]
    found = solutions.objective.min()
    assert found == pytest.approx(objective(problem, best), rel=1e-12)
    rival = minimize(
        lambda t: 1e3 * objective(problem, t), best + 0.02, method="Nelder-Mead",
        options={"maxiter": 8000, "maxfev": 8000, "xatol": 1e-10, "fatol": 1e-14},
    )  # fmt: skip
    assert found <= rival.fun / 1e3 * (1 + 1e-9)
    assert certify(law, solutions)[0].name == "CONVERGED"


def test_a_solver_that_is_cut_short_says_so():
    law = LAWS["additive"]
    problem, theta = make_problem(law)
    solutions = solve(problem, theta[None] + 0.5, max_iterations=2)
    assert certify(law, solutions)[0].name == "MAX_ITER"


@pytest.mark.parametrize("law", LAWS.values(), ids=lambda law: law.name)
def test_coordinates_and_parameters_are_inverse(law):
    centre = Centre(log_n_params=18.0, log_n_tokens=22.0, log_loss=0.9)
    theta = np.array([[-0.5, -1.6, -1.4, 0.35, 0.3, -0.2]])[:, : len(law.parameters)]
    back = law.to_coordinates(law.to_parameters(theta, centre), centre)
    np.testing.assert_allclose(back, theta, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("additive", (1.0, 8.0, 9.0, 0.5, 1.0), 1 + 8 / 2 + 9 / 3),
        ("curved", (1.0, 8.0, 9.0, 0.5, 1.0, 2.0), 1 + (8 / 2 + 9 / 3) ** 2),
    ],
)
def test_loss_follows_its_formula(name, parameters, expected):
    assert LAWS[name].loss(parameters, 4.0, 3.0) == pytest.approx(expected, rel=1e-13)


def test_a_new_start_does_not_change_global_precision():
    import jax.numpy as jnp

    law = LAWS["additive"]
    problem, theta = make_problem(law)
    solve(problem, theta[None])
    assert jnp.zeros(1).dtype == jnp.float32
    assert ORIGIN.log_loss == 0.0
