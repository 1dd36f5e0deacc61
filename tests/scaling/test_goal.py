# SPDX-License-Identifier: Apache-2.0
"""Goals of a study: what is understood, and when it is met."""

import dataclasses

import pytest

from scaling.fit import FitError, FitStatus, Interval
from scaling.goal import Goal, is_met, parse_goal
from scaling.runs import Runs
from scaling.surface import fit_surface

GOOD = (
    ("ci(a) < 0.02", "a", 0.02, False),
    ("ci(a)<2e-2", "a", 0.02, False),
    (" ci( loss ) <  0.5 % ", "loss", 0.005, True),
    ("ci(n_params_opt) < 20%", "n_params_opt", 0.2, True),
)
BAD = (
    *("", "a < 0.02", "ci(a)", "ci(a) < ", "ci(a) > 0.02", "ci(a) <= 0.02", "ci(beta) < 0.1"),
    *("ci(a) < -0.1", "ci(a) < 0", "ci(a) < nan", "ci(a) < 1e999", "ci(a) < 1.2.3"),
    *("ci(a) < 0.02; x", "ci(a) < __import__('os')", "ci(a) < 0.1 %%"),
)


@pytest.mark.parametrize(("text", "quantity", "limit", "is_relative"), GOOD)
def test_goals_are_read_and_written(text, quantity, limit, is_relative):
    goal = parse_goal(text)
    assert goal == Goal(quantity=quantity, limit=pytest.approx(limit), is_relative=is_relative)
    assert parse_goal(goal.text) == goal


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match="goal") as caught:
        parse_goal(text)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def fit():
    rows = [(n, d) for n in (1e7, 3e7, 1e8, 3e8) for d in (1e9, 3e9, 1e10, 3e10)]
    n, d = zip(*rows, strict=True)
    loss = [1.69 + 406.4 * n**-0.34 + 410.7 * d**-0.28 + 0.01 * (i % 3 - 1)
            for i, (n, d) in enumerate(rows)]  # fmt: skip
    return fit_surface(Runs.from_columns(n_params=n, n_tokens=d, loss_nats=loss), n_bootstrap=50)


def test_the_width_of_the_exponent_is_judged(fit):
    interval = fit.intervals["a"]
    width = interval.upper - interval.lower
    for factor, met in ((1.01, True), (0.99, False)):
        goal = Goal(quantity="a", limit=factor * width, is_relative=False)
        assert is_met(goal, [fit], 1e21) == (pytest.approx(width), met)
    relative = is_met(Goal(quantity="a", limit=1.0, is_relative=True), [fit], 1e21)
    assert relative[0] == pytest.approx(width / fit.exponent_a)


def test_loss_and_size_are_judged_at_the_target(fit):
    for quantity, unit in (("loss", 1.0), ("n_params_opt", 1e9)):
        goal = Goal(quantity=quantity, limit=100 * unit, is_relative=False)
        near, far = (is_met(goal, [fit], flops) for flops in (1e19, 1e22))
        assert 0 < near[0] < far[0], quantity
        assert near[1]


def test_no_interval_and_no_certificate_meet_nothing(fit):
    unknown = dataclasses.replace(
        fit, intervals=fit.intervals | {"a": Interval(lower=float("nan"), upper=float("nan"))}
    )
    doubtful = dataclasses.replace(fit, status=FitStatus.AT_BOUND)
    goal = Goal(quantity="a", limit=1e6, is_relative=False)
    assert is_met(goal, [fit], 1e21)[1]
    assert not is_met(goal, [unknown], 1e21)[1]
    assert not is_met(goal, [doubtful], 1e21)[1]
    with pytest.raises(FitError):
        is_met(goal, [], 1e21)
