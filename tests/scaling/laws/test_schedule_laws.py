# SPDX-License-Identifier: Apache-2.0
"""The multi-power law's derivatives, written by hand, against differences of its plain formula."""

import numpy as np
import pytest

from scaling.laws.objectives import objective_named
from scaling.laws.schedule_laws import MULTI_POWER
from scaling.solve.newton import solve
from scaling.solve.problem import NO_CONSTRAINTS, set_up

pytestmark = pytest.mark.usefixtures("quick_to_compile")
PUBLISHED_25M = np.array([3.040, 0.525, 0.508, 363.788, 2.066, 0.583, 0.641])


def columns(n=24, n_nodes=9):
    """Nodes of rates that fall and rise, from just before an evaluation to long before."""
    rng = np.random.default_rng(2)
    return {
        "log_lr_sum": rng.uniform(-1.0, 2.0, n),
        "drop_weight": rng.uniform(-1e-4, 3e-4, (n, n_nodes)),
        "drop_log_lr": rng.uniform(-14.0, -8.0, (n, n_nodes)),
        "drop_log_reach": rng.uniform(-8.0, 2.0, (n, n_nodes)),
    }


@pytest.mark.parametrize(
    "change", [(1, 1, 1), (1e-3, 0.3, 2.0), (1e6, 4.0, 0.1)], ids=["published", "low", "complete"]
)
def test_derivatives_are_those_of_the_formula(change):
    x, factors = columns(), np.array([1, 1, 1, 1, *change])
    parameters = PUBLISHED_25M * factors
    y = MULTI_POWER.predict(parameters * 1.01, x) + 0.01 * np.sin(np.arange(24.0))
    objective = objective_named("raw-least_squares")
    problem = set_up(MULTI_POWER, x, y, objective=objective, constraints=NO_CONSTRAINTS)
    z = MULTI_POWER.to_coordinates(parameters)

    def value(z):
        return 0.5 * float(np.sum(problem.residuals(problem.parameters_of(z)) ** 2))

    shifts = 1e-4 * np.eye(len(z))
    shifted = np.concatenate([z[None], z + shifts, z - shifts])
    at = solve(problem, shifted, max_iterations=0)
    assert at.objective[0] == pytest.approx(value(z), rel=1e-12)
    slopes = [(value(z + s) - value(z - s)) / 2e-4 for s in shifts]
    np.testing.assert_allclose(at.gradient[0], slopes, rtol=1e-5, atol=1e-9)
    above, below = np.split(at.gradient[1:], 2)
    bends = (above - below) / 2e-4
    largest = np.abs(at.hessian[0]).max()
    np.testing.assert_allclose(at.hessian[0], bends, rtol=1e-5, atol=1e-8 * largest)
