# SPDX-License-Identifier: Apache-2.0
"""Problems of many points end where they would end if they were treated like small ones."""

import numpy as np
import pytest

from scaling.laws.loss_laws import ADDITIVE
from scaling.laws.objectives import objective_named
from scaling.solve import newton, problem
from scaling.solve.problem import part_of, set_up
from scaling.solve.regression import estimate

THETA = (1.69, 406.4, 410.7, 0.34, 0.28)


def made(n, objective):
    rng = np.random.default_rng(0)
    N, D = np.exp(rng.uniform(np.log(1e7), np.log(1e10), (2, n)) + np.array([[0.0], [4.0]]))
    loss = ADDITIVE.loss(THETA, N, D) * np.exp(0.005 * rng.standard_normal(n))
    columns = {"n_params": N, "n_tokens": D}
    return set_up(ADDITIVE, columns, loss, objective=objective_named(objective))


@pytest.mark.parametrize("objective", ["huber:1e-3", "lad"])
def test_the_minima_of_a_part_lead_to_those_of_the_whole(monkeypatch, objective):
    large = made(400, objective)
    whole = estimate(large)
    monkeypatch.setattr(problem, "_EXPLORED", 300)
    assert part_of(large).n_points == 150
    found = estimate(large)
    assert len(found.residuals) == 400
    np.testing.assert_allclose(found.z, whole.z, rtol=1e-7)
    assert found.certificate.objective == pytest.approx(whole.certificate.objective, rel=1e-9)
    assert found.status is whole.status
    assert found.certificate.n_starts_agree > 1


def test_a_small_problem_is_no_part():
    small = made(200, "huber:1e-3")
    assert part_of(small) is small


def test_rows_end_alike_in_calls_of_two_and_of_twelve(monkeypatch):
    one, rows = made(60, "huber:1e-3"), 7
    begin = ADDITIVE.to_coordinates(np.array(THETA))[None] + 0.02 * np.arange(rows)[:, None]
    many = newton.solve(one, begin)
    monkeypatch.setattr(newton, "_MANY", 0)
    few = newton.solve(one, begin)
    assert few.is_certified.all()
    np.testing.assert_allclose(few.theta, many.theta, rtol=1e-9)
