# SPDX-License-Identifier: Apache-2.0
"""The benchmark of designs: its problems are what they say, its page counts and marks misses."""

from pathlib import Path

import numpy as np
import pytest

from experiments.benchmarks import design_problems as problems
from experiments.benchmarks.design_page import _page
from scaling.laws import law_named

PUBLISHED = Path(__file__).parents[3] / "results" / "published"


@pytest.mark.parametrize("one", problems.PLANTED, ids=lambda one: one.name)
def test_the_truth_of_a_planted_law_is_the_lowest_loss_at_its_budget(one):
    problem = problems.planted(one)
    assert problem.flops == pytest.approx(1e22)
    law, N = law_named(one.law), np.geomspace(1e8, 1e13, 200001)
    losses = law.loss(one.parameters, N, problem.flops / (6 * N))
    assert problem.truth["loss"] == pytest.approx(losses.min(), rel=1e-9)
    assert problem.truth["n_params_opt"] == pytest.approx(N[losses.argmin()], rel=1e-3)
    (grid,) = problem.uniform
    assert (len(problem.pool), len(grid)) == (243, 35)
    noise = np.log(problem.trained(grid, np.random.default_rng(0)).loss_nats / grid.loss_nats)
    assert np.std(noise) == pytest.approx(one.sd, rel=0.4)


@pytest.mark.parametrize("name", problems.TABLES)
def test_grids_of_a_table_are_five_of_its_sizes_per_budget(name):
    problem = problems.table(PUBLISHED, name)
    known = set(problem.pool.run_id)
    assert len({tuple(grid.run_id) for grid in problem.uniform}) > 1
    for grid in problem.uniform:
        assert set(grid.run_id) <= known
        assert {int(np.sum(grid.budget == b)) for b in grid.budgets} == {5}
        assert len(grid.budgets) == len(problem.pool.budgets)


def row(**changes):
    same = {
        "problem": "Law", "note": "a note", "target": "loss", "goal_width": 0.1,
        "uniform_flops": 1e21, "uniform_runs": 35, "uniform_covers": [3, 3],
        "spent": [0.2, 0.3, None], "runs_at_stop": 80, "covers": [2, 3], "random_width": 1.25,
    }  # fmt: skip
    return same | changes


def test_the_page_counts_what_is_met_and_marks_what_is_not():
    trap = {"additive only": {"uniform_covers": [1, 3], "covers": [0, 3]}}
    rows = [
        row(),
        row(target="exponent", spent=[0.4, 0.7, None]),
        row(target="n_params_opt", spent=[0.1, None, None], covers=[1, 1]),
        row(problem="Table", covers=[0, 0], spent_whole=[0.5, 0.5, 0.9], whole_runs=80),
    ]
    record = {"command": "make it", "seconds": 3, "device": "abacus", "repetitions": 3}
    page = _page(record | {"rows": rows, "trap": trap})
    assert "1 of 3 rows at half of the FLOPs or less." in page
    assert "| Law (a note) | L* | 0.30 | 80, 35 | 1.25 | 2 of 3 | 0.20, 0.30, never |" in page
    assert "| a | **0.70** |" in page
    assert "| N* | **not reached** |" in page
    assert page.count("1 of 1 rows at half of the FLOPs or less.") == 2
    assert "| Table (a note) | L* | 0.50 | 80 |  |  | 0.50, 0.50, 0.90 |" in page
    assert "hold the planted truth in 5 of 7: 71.4 %" in page
    assert "| additive only | 1 of 3 | 0 of 3 |" in page
