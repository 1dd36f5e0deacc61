# SPDX-License-Identifier: Apache-2.0
"""ScaleBench: choices come from training rows alone, and the page says what was recorded."""

import json
import shutil

import numpy as np
import pytest

from experiments.benchmarks.record import FOLDER as RESULTS
from experiments.benchmarks.scalebench.choose import choose
from experiments.benchmarks.scalebench.page import page
from experiments.benchmarks.scalebench.run import CHOICES
from experiments.benchmarks.scalebench.tasks import FOLDER, TASKS
from scaling.laws.further_laws import FURTHER_LAWS
from scaling.laws.registry import LAWS

BY_NAME = {task.name: task for task in TASKS}
CHOSEN = json.loads(CHOICES.read_text())


@pytest.fixture
def choices():
    return CHOSEN


@pytest.mark.slow  # Some hundred fits.
def test_choices_without_any_target_rows_are_those_that_were_recorded(tmp_path, choices):
    task = BY_NAME["parallel"]
    shutil.copy(FOLDER / f"{task.name}_train.parquet", tmp_path)
    found, known = choose(task, tmp_path), choices[task.name]
    assert found["named"] == known["named"]
    for share, one in known["budgets"].items():
        assert found["budgets"][share]["rows"] == one["rows"]
        assert found["budgets"][share]["named"] == one["named"]


@pytest.mark.parametrize("name", CHOSEN)
def test_every_budget_is_kept_in_every_group(name, choices):
    task = BY_NAME[name]
    table, labels = task.read("train")
    cost = task.cost(table)
    assert choices[task.name]["rows"] == len(cost)
    for share, one in choices[task.name]["budgets"].items():
        rows = np.array(one["rows"], int)
        assert len(set(one["rows"])) == len(rows)
        for label in np.unique(labels):
            spent = cost[rows][labels[rows] == label].sum()
            assert spent <= float(share) * cost[labels == label].sum() * (1 + 1e-9)


def test_costs_and_targets_are_as_the_tables_say():
    counts = {"parallel": 36, "vocab": 1080, "domain_mixture": 80, "moe": 193, "farseer": 404,
              "data_constrained": 161, "lr_bsz": 2702, "sparsity": 70}  # fmt: skip
    groups = {"parallel": 2, "domain_mixture": 4}
    for name, count in counts.items():
        table, labels = BY_NAME[name].read("train")
        assert len(labels) == count
        if name in groups:
            assert len(set(labels)) == groups[name]
        assert np.all(BY_NAME[name].cost(table) > 0)
    mixtures, _ = BY_NAME["domain_mixture"].read("train")
    shares = sum(mixtures[f"proportion_domain_{i}"] for i in range(1, 6))
    np.testing.assert_allclose(shares, 1.0, atol=1e-2)


def test_laws_carry_the_score_of_their_best_fit(choices):
    found = {}
    for name, one in choices.items():
        for law in {score["law"] for score in one["scores"]}:
            fits = [score for score in one["scores"] if score["law"] == law and score["error"]]
            r2 = min(fits, key=lambda score: score["error"])["r2"]
            found[law] = f"ScaleBench {name}: R2 {r2:.2f} of rows held out"
    # Of a law for M domains other tests ask for other M.
    ours = {name: law for name, law in LAWS.items() if ":" not in name or name in found}
    told = {name: law.score for name, law in ours.items() if law.score.startswith("ScaleBench")}
    assert told == {name: found[name] for name in told}
    # Laws that were there before have tables of their own in results/published/.
    assert set(found) - set(told) == {"additive", "curved", "data_constrained"}
    assert {law.score for law in FURTHER_LAWS} == {"not scored: no public table"}


def test_the_page_is_that_of_the_record(choices):
    record = json.loads((RESULTS / "scalebench.json").read_text())
    assert (RESULTS / "scalebench.md").read_text() == page(record, choices)
