# SPDX-License-Identifier: Apache-2.0
"""Laws fitted by column: groups, targets of either sign, weights, intervals, refusals."""

import numpy as np
import pytest

from scaling.approaches.columns import Way, draw_parameters, fit_columns
from scaling.fit import FitError
from scaling.laws.law import Law, Parameter, amplitude, exponent
from scaling.laws.objectives import objective_named
from scaling.solve.problem import Constraints

# Two parameters and a sign that changes along the rows.
FALLING = Law(
    name="falling_below_zero",
    formula="y = K x^-c - 2",
    source="this test",
    columns=("log_x",),
    parameters=(amplitude("K"), exponent("c")),
    value=lambda xp, p, x: p[0] * xp.exp(-p[1] * x["log_x"]) - 2.0,
    target="y",
)
LINE = Law(
    name="line",
    formula="y = m",
    source="this test",
    columns=("x",),
    parameters=(Parameter(name="m", is_positive=False, lower=-9.0, upper=9.0, start=(-1.0, 1.0)),),
    value=lambda xp, p, x: p[0] + 0.0 * x["x"],
    target="y",
)
RAW = objective_named("raw-huber:1000")
X = np.geomspace(1.0, 100.0, 12)


def test_groups_and_targets_have_parameters_of_their_own():
    group = np.repeat(["a", "b"], 12)
    x = np.tile(X, 2)
    K, c = np.repeat([3.0, 5.0], 12), np.repeat([0.3, 0.6], 12)
    table = {"x": x, "y": K * x**-c - 2.0, "z": 2 * K * x**-c - 2.0}
    fit = fit_columns(table, Way(law=FALLING, objective=RAW), targets=("y", "z"), groups=group)
    found = {key: one.parameters for key, one in fit.estimates.items()}
    expected = {
        ("a", "y"): (3, 0.3),
        ("a", "z"): (6, 0.3),
        ("b", "y"): (5, 0.6),
        ("b", "z"): (10, 0.6),
    }
    assert set(found) == set(expected)
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values, rtol=1e-6)
    assert fit.is_certified
    order = [23, 0, 12, 11]
    rows = {name: values[order] for name, values in table.items()}
    expected_rows = np.stack([rows["y"], rows["z"]], axis=1)
    np.testing.assert_allclose(fit.predict(rows, group[order]), expected_rows, atol=1e-6)
    with pytest.raises(ValueError, match="nothing was fitted to the group 'c'; groups are a, b"):
        fit.predict(rows, np.array(["a", "b", "c", "a"]))


def test_a_tilt_weighs_rows_by_their_cost_to_its_power():
    """The mean of two values, weighed 1 to 4 under the root of costs 1 to 16."""
    table = {"x": np.arange(6.0), "y": np.repeat([0.0, 1.0], 3)}
    cost = np.repeat([2.0, 32.0], 3)
    for tilt, expected in ((0.0, 0.5), (0.5, 0.8), (1.0, 16 / 17)):
        fit = fit_columns(table, Way(law=LINE, objective=RAW, tilt=tilt), cost=cost)
        assert fit.estimates["", "y"].parameters[0] == pytest.approx(expected, abs=1e-9)


def test_constraints_of_one_target_stand_in_place_of_those_of_all():
    table = {"x": X, "y": 3.0 * X**-0.3 - 2.0, "z": 3.0 * X**-0.3 - 2.0}
    own = {"z": Constraints(fixed={"K": 1.0})}
    way = Way(law=FALLING, objective=RAW, constraints=Constraints(fixed={"c": 0.3}), own=own)
    fit = fit_columns(table, way, targets=("y", "z"))
    assert fit.estimates["", "y"].parameters == pytest.approx((3.0, 0.3), rel=1e-6)
    assert fit.estimates["", "z"].parameters[0] == pytest.approx(1.0)
    assert (way.n_free("y"), way.n_free("z")) == (1, 1)


def test_draws_spread_as_the_mean_of_normal_noise_does():
    """Of a mean of n values the standard deviation is sigma / sqrt(n)."""
    n, rng = 400, np.random.default_rng(1)
    y = 0.3 + 0.1 * rng.standard_normal(n)
    fit = fit_columns({"x": np.arange(float(n)), "y": y}, Way(law=LINE, objective=RAW))
    drawn = draw_parameters(fit, 2000, seed=0)["", "y"][:, 0]
    assert drawn.mean() == pytest.approx(y.mean(), abs=5e-4)
    assert drawn.std() == pytest.approx(y.std() / np.sqrt(n), rel=0.1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"y": -np.ones(12)}, "y has values down to -1; use raw-huber"),
        ({"x": np.append(X[:-1], 0.0)}, "reads x, which has no logarithm in some rows"),
        ({"x": None}, "needs the column x; there are y"),
        ({"y": None}, "there is no column y to predict; there are x"),
    ],
)
def test_what_cannot_be_fitted_is_named(change, said):
    table = {"x": X, "y": X**-0.3} | change
    table = {name: values for name, values in table.items() if values is not None}
    with pytest.raises(ValueError, match=said):
        fit_columns(table, Way(law=FALLING))


def test_too_few_rows_of_a_group_are_refused():
    table = {"x": X[:3], "y": X[:3] ** -0.3}
    with pytest.raises(FitError, match="2 free parameters and needs at least 4 different"):
        fit_columns(table, Way(law=FALLING, objective=RAW))
    assert fit_columns(table, Way(law=FALLING, objective=RAW), spare=1).targets == ("y",)
