# SPDX-License-Identifier: Apache-2.0
"""Losses by how much is seen: kept with a run, in a table, and drawn of the best runs."""

import csv
import dataclasses

import numpy as np
import pytest

from experiments.ledger.tables import tables
from experiments.ledger.verdict import Judge
from experiments.plan.plan import plan
from experiments.report.fits.contexts import context_curves
from experiments.study.study import Axis
from model.training.by_context import ContextLoss
from model.training.outcome import Loss
from scaling.plots.loss_curves import figure_contexts

RATE = "recipe.optimizer.learning_rate"


def losses(nats):
    """Of windows of 4: less where more is seen."""
    bins = [(1, 1), (2, 3), (4, 4)]
    by_context = tuple(
        ContextLoss(least_seen=low, most_seen=high, nats=nats + 1 / high, n_units=7)
        for low, high in bins
    )
    units = {"se_nats": None, "n_units": 21, "n_bytes": 21.0, "is_bound": False}
    return {"all": Loss(nats=nats, by_context=by_context, **units)}


def finish(ledger, record, points):
    ledger.write_plan("{}", points)
    for i, point in enumerate(points):
        ledger.write_result(point.id, record(losses=losses(1.0 + i / 10)))
    judge = Judge(ledger)
    return {point.id: judge.outcome(point.id) for point in points}


def test_losses_come_back_from_the_ledger_and_stand_in_a_table(ledger, points, record):
    verdicts = finish(ledger, record, points[:2])
    for i, point in enumerate(points[:2]):
        assert verdicts[point.id].result.losses == losses(1.0 + i / 10)
    text = tables(ledger, points[:2])[ledger.contexts]
    rows = [*csv.DictReader(text.splitlines())]
    assert [row["run_id"] for row in rows] == [point.id for point in points[:2] for _ in range(3)]
    assert [float(row["loss_nats"]) for row in rows[:3]] == pytest.approx([2.0, 4 / 3, 1.25])
    assert {row["n_units"] for row in rows} == {"7"}


def test_the_best_run_of_each_budget_is_shown(ledger, points, record):
    curves = context_curves(points, finish(ledger, record, points))
    budgets = sorted({point.budget for point in points})
    assert [curve.budget for curve in curves] == budgets
    first = {b: next(i for i, p in enumerate(points) if p.budget == b) for b in budgets}
    assert [curve.losses[-1] for curve in curves] == pytest.approx(
        [1.25 + first[budget] / 10 for budget in budgets]
    )


def test_of_settings_with_names_the_best_run_at_the_largest_budget(ledger, study, manifest, record):
    """Of numbers the best value is taken."""
    blocks = study.recipe.shape.blocks
    patterns = Axis(field="recipe.shape.blocks", values=(blocks, 2 * blocks), labels=("b", "a"))
    axes = (patterns, Axis(field=RATE, values=(0.5, 1.0)))
    points = plan(dataclasses.replace(study, axes=axes), manifest).points
    curves = context_curves(points, finish(ledger, record, points))
    assert [curve.label for curve in curves] == ["b", "a"]
    assert {curve.budget for curve in curves} == {max(study.budgets)}
    lines = figure_contexts(curves).axes[0].get_lines()
    assert [line.get_label() for line in lines] == [curve.label for curve in curves]
    for line, curve in zip(lines, curves, strict=True):
        np.testing.assert_allclose(line.get_xdata(), [1, 6**0.5, 4])
        assert tuple(line.get_ydata()) == curve.losses


def test_runs_that_kept_none_show_none(ledger, points, record):
    ledger.write_plan("{}", points)
    for point in points:
        ledger.write_result(point.id, record(2.0))
    judge = Judge(ledger)
    assert context_curves(points, {p.id: judge.outcome(p.id) for p in points}) == ()
    assert ledger.contexts not in tables(ledger, points)
