# SPDX-License-Identifier: Apache-2.0
"""Conformal intervals: the level that the budgets support, scores worked out by hand, coverage."""

from dataclasses import replace

import numpy as np
import pytest

from scaling.answers import conformal
from scaling.answers.conformal import conformal_loss, leave_out
from scaling.answers.loss_forecast import average_loss
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import FitError
from scaling.laws.registry import law_named
from scaling.tables.runs import Runs

TRUTH = (1.69, 406.4, 410.7, 0.34, 0.28)
BUDGETS = (1e17, 1e18, 1e19, 1e20)


def grid(*, sd=0.005, seed=0, wrong=None):
    """Six sizes at each budget; the runs of one budget may be off by a factor."""
    budget = np.repeat(BUDGETS, 6)
    n_params = 0.1 * np.sqrt(budget) * np.tile(np.geomspace(0.3, 3.0, 6), 4)
    loss = law_named("additive").loss(TRUTH, n_params, budget / (6 * n_params))
    loss = loss * np.exp(sd * np.random.default_rng(seed).standard_normal(len(budget)))
    if wrong is not None:
        loss = np.where(budget == wrong, 1.05 * loss, loss)
    return Runs.from_columns(
        n_params=n_params, n_tokens=budget / (6 * n_params), loss_nats=loss, budget=budget
    )


def fitted(runs):
    return [fit_surface(runs, "additive", n_bootstrap=60)]


def asked(fits, n_bootstrap=2):
    """Of a run of 1e9 parameters on 2e10 tokens."""
    return conformal_loss(fits, leave_out(fits, n_bootstrap=n_bootstrap), 1e9, 2e10)


def test_the_level_is_that_of_the_budgets_and_the_middle_is_the_forecast():
    fits = fitted(grid())
    found = asked(fits)
    assert found.level == 4 / 5
    assert tuple(found.scores) == BUDGETS
    assert found.value == average_loss(fits, 1e9, 2e10).value
    ends = found.interval
    assert found.value - ends.lower == pytest.approx(ends.upper - found.value)
    three = [fit_surface(grid().select(grid().budget < 1e20), "additive", n_bootstrap=60)]
    assert asked(three).level == 3 / 4


def test_the_worst_budget_sets_the_width_in_units_of_the_bootstrap(monkeypatch):
    """Forecasts of 2.0 with half-widths of 0.1, and of 0.3 for the new run; losses by budget."""
    runs = grid(sd=0.0)
    errors = dict(zip(BUDGETS, (0.05, -0.2, 0.1, 0.0), strict=True))
    losses = np.array([2.0 + errors[float(budget)] for budget in runs.budget])
    fits = [replace(fitted(grid())[0], runs=replace(runs, loss_nats=losses))]
    ratios = []

    def told(fits, n_params, n_tokens):
        ratios.append(n_tokens / n_params)
        return 2.0, 0.3 if n_params == 1e9 else 0.1

    monkeypatch.setattr(conformal, "_told", told)
    found = asked(fits)
    assert list(found.scores.values()) == pytest.approx([0.5, 2.0, 1.0, 0.0])
    assert (found.interval.lower, found.interval.upper) == pytest.approx((1.4, 2.6))
    # Root of (0.25 + 4 + 1) / 4; what lies 0.2 below the forecast is moved to 0.229 below.
    assert found.birge_ratio == pytest.approx(1.1456, abs=1e-4)
    assert [found.widened(loss) for loss in (1.8, 2.0)] == pytest.approx([1.7709, 2.0], abs=1e-4)
    assert replace(found, scores={1e17: 0.5, 1e18: 0.9}).birge_ratio == 1.0
    # The run asked of each budget is the one nearest to 20 tokens per parameter.
    own = runs.n_tokens / runs.n_params
    nearest = [min(own[runs.budget == b], key=lambda r: abs(np.log(r / 20))) for b in BUDGETS]
    assert ratios == pytest.approx([20.0, *nearest])


def test_a_budget_that_is_off_is_no_part_of_the_fit_that_judges_it():
    calm, off = (asked(fitted(grid(wrong=wrong)), n_bootstrap=40) for wrong in (None, 1e20))
    assert off.scores[1e20] > 3 * max(calm.scores.values())


def test_one_budget_leaves_nothing_to_leave_out():
    fits = fitted(grid())
    one = replace(fits[0], runs=grid().select(grid().budget == 1e17))
    with pytest.raises(FitError, match="0 of 1 can be, and it takes 2"):
        leave_out([one])


def test_a_budget_without_which_there_is_no_fit_is_not_left_out(monkeypatch):
    fits = fitted(grid())
    fit = conformal.fit_surface

    def picky(runs, *args, **options):
        if 1e17 not in runs.budgets:
            raise FitError("all runs lie on one line")
        return fit(runs, *args, **options)

    monkeypatch.setattr(conformal, "fit_surface", picky)
    assert tuple(leave_out(fits, n_bootstrap=2)) == BUDGETS[1:]
    assert asked(fits).level == 3 / 4


def test_many_budgets_are_left_out_in_eight_groups_of_neighbours():
    runs = grid()
    scattered = replace(runs, budget=runs.budget * np.geomspace(0.9, 1.1, len(runs.budget)))
    left_out = leave_out([replace(fitted(runs)[0], runs=scattered)], n_bootstrap=2)
    assert [len(own) for own, _ in left_out.values()] == [3] * 8
    assert list(left_out) == sorted(left_out)
    for budget, (own, rest) in left_out.items():
        assert own.budget.max() == budget
        assert len(rest[0].fitted_runs) == 21
        assert not set(own.budget) & set(rest[0].fitted_runs.budget)
