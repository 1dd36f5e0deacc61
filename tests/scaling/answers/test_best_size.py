# SPDX-License-Identifier: Apache-2.0
"""The best size at one budget: numpy's parabola, Fieller's interval, and none where none is."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.stats import t

from scaling.answers.best_size import best_size, is_one_budget
from scaling.fit import FitError


@pytest.fixture
def one_budget(planted_named):
    """Runs at one of the budgets of a planted law, as a function of the grid about its optimum."""

    def runs(sd=0.002, **grid):
        whole = planted_named("chinchilla")
        return dataclasses.replace(whole, budgets=(1e19,), **grid).runs(sd=sd)

    return runs


def test_the_minimum_is_that_of_the_parabola_with_fiellers_interval(one_budget):
    runs = one_budget()
    found = best_size(runs, level=0.9)
    x = np.log(runs.n_params)
    x -= x.mean()
    coefficients, unscaled = np.polyfit(x, runs.loss_nats, 2, cov="unscaled")
    c2, c1, _ = coefficients
    vertex = -c1 / (2 * c2)
    at = float(np.exp(vertex + np.log(runs.n_params).mean()))
    optimum = found.optimum
    assert found.is_minimum
    assert optimum.n_params_opt == pytest.approx(at)
    assert optimum.loss_opt == pytest.approx(np.polyval(coefficients, vertex))
    assert optimum.n_tokens_opt == pytest.approx(1e19 / (6 * at), rel=1e-3)
    dof = len(x) - 3
    variance = np.sum((runs.loss_nats - np.polyval(coefficients, x)) ** 2) / dof
    for end in (optimum.interval_n_params.lower, optimum.interval_n_params.upper):
        v = np.log(end) - np.log(runs.n_params).mean()
        slope, row = 2 * c2 * v + c1, np.array([2 * v, 1.0, 0.0])
        ratio = abs(slope) / np.sqrt(variance * row @ unscaled @ row)
        assert ratio == pytest.approx(t.ppf(0.95, dof), rel=1e-3)
    # More parameters, fewer tokens.
    tokens = optimum.interval_n_tokens
    assert tokens.lower < optimum.n_tokens_opt < tokens.upper


def test_the_sentence_tells_size_tokens_and_loss_and_no_exponent(one_budget):
    said = best_size(one_budget()).sentence("byte")
    assert said == (
        "At 1e19 FLOPs train 234M (229M to 238M) parameters on 7.14B (7B to 7.27B) bytes: "
        "2.984 (2.979 to 2.989) nats per byte, the minimum of a parabola through 7 runs at 7 sizes."
    )


@pytest.mark.parametrize(
    ("grid", "tried", "reason"),
    [
        ({"n_sizes": 3}, "best of 3 sizes", "3 runs at 3 sizes, a parabola needs 5 runs at 4"),
        ({"n_sizes": 4}, "best of 4 sizes", "4 runs at 4 sizes, a parabola needs 5 runs at 4"),
        ({"n_sizes": 1, "n_seeds": 9}, "only size", "9 runs at 1 size, a parabola needs 5 runs"),
        ({"off_centre": 12}, "best of 7 sizes", "no interior minimum"),
        ({"n_sizes": 5, "width": 1.2}, "best of 5 sizes", "the parabola opens downward"),
        ({"n_sizes": 5, "width": 2, "sd": 0.01}, "best of 5 sizes", "the curvature is not"),
    ],
    ids=str,
)
def test_without_a_minimum_the_best_size_tried_is_told_and_why(one_budget, grid, tried, reason):
    runs = one_budget(**grid)
    found = best_size(runs)
    assert not found.is_minimum
    sizes = np.unique(runs.n_params)
    means = [runs.loss_nats[runs.n_params == size].mean() for size in sizes]
    assert found.optimum.n_params_opt == sizes[np.argmin(means)]
    assert found.optimum.loss_opt == min(means)
    assert not found.optimum.interval_n_params.is_known
    assert f"the {tried} tried has " in found.sentence()
    assert f"It is no minimum: {reason}" in found.sentence()


def test_runs_that_are_not_ok_do_not_count(one_budget):
    runs = one_budget(n_sizes=8)
    status = runs.status.copy()
    status[0] = "diverged"
    low = np.where(status == "ok", runs.loss_nats, 0.1)
    spoilt = dataclasses.replace(runs, status=status, loss_nats=low)
    assert best_size(spoilt).optimum == best_size(runs.select(status == "ok")).optimum


def test_it_is_strict_json_without_the_runs(one_budget):
    told = json.loads(json.dumps(best_size(one_budget(n_sizes=3)).to_dict(), allow_nan=False))
    assert (told["is_minimum"], told["n_runs"], told["n_sizes"]) == (False, 3, 3)
    assert told["optimum"]["interval_n_params"] == {"lower": None, "upper": None}
    assert "runs" not in told


def test_several_budgets_are_refused(planted_named):
    runs = planted_named("few_budgets").runs()
    assert not is_one_budget(runs)
    with pytest.raises(FitError, match="fit a law to several"):
        best_size(runs)
