# SPDX-License-Identifier: Apache-2.0
"""What is chosen on the training rows of a task: law and fit, and at each budget the rows.

Nothing here reads a target row: `tests/experiments/benchmarks/test_scalebench.py` runs it in a
folder that has none.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.scalebench.tasks import FOLDER, Task
from scaling.answers.extrapolation import Score, best, cuts, score
from scaling.approaches.columns import ColumnFit, Way, fit_columns
from scaling.design.rows import choose_rows
from scaling.fit import FitError
from scaling.json_values import encode
from scaling.tables.arrays import Array


def choose(task: Task, folder: Path = FOLDER) -> dict[str, Any]:
    """Choices of one task, as JSON has them."""
    table, labels = task.read("train", folder)
    cost = task.cost(table)
    chosen, scores = choose_way(task, table, labels, cost, task.ways)
    budgets = {}
    for share in task.budgets if task.has_target else ():
        rows = paid_rows(task, table, labels, cost, share)
        budgets[f"{share:g}"] = {
            "rows": rows.tolist(),
            "spent": float(cost[rows].sum() / cost.sum()),
            "named": paid_form(task, table, labels, cost, rows),
        }
    return {
        "rows": len(cost),
        "named": named(chosen.way),
        "held_out_r2": chosen.r2,
        "scores": [{**named(one.way), "error": encode(one.error), "r2": one.r2} for one in scores],
        "budgets": budgets,
    }


def named(way: Way) -> dict[str, Any]:
    """A way in words."""
    fixed = way.constraints.fixed
    tied = any(one.tied for one in way.own.values())
    return {
        "law": way.law.name,
        "fixed": ", ".join(f"{name} = {value:g}" for name, value in fixed.items()),
        "tied": "the other domains" if tied else "",
        "objective": way.objective.name,
        "tilt": way.tilt,
    }


def choose_way(
    task: Task, table: dict[str, Array], labels: Array, cost: Array, ways: Sequence[Way]
) -> tuple[Score, list[Score]]:
    """The way that extrapolates best inside these rows, and the scores of all."""
    held_out = cuts(table, far=task.far(table), groups=labels)
    scores = [
        score(table, way, held_out, targets=task.targets, groups=labels, cost=cost) for way in ways
    ]
    return best(scores, task.targets), scores


def paid_rows(
    task: Task, table: dict[str, Array], labels: Array, cost: Array, share: float
) -> Array:
    """Rows [k] that the design takes, each group spending the share of its own cost."""
    way = design_way(task)
    rows: list[int] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        part = {name: values[members] for name, values in table.items()}
        budget = share * float(cost[members].sum())
        taken = choose_rows(
            part, way, targets=task.targets, cost=cost[members], far=task.far(part), budget=budget
        )
        rows += members[taken].tolist()
    return np.array(rows, int)


def design_way(task: Task) -> Way:
    """The form that the rows are chosen for: the last, which has the most to be told."""
    return task.plain[-1]


def paid_form(
    task: Task, table: dict[str, Array], labels: Array, cost: Array, rows: Array
) -> dict[str, Any] | None:
    """The form of lowest BIC (Schwarz 1978) on the rows that were paid for.

    Where no group has a row to spare for any form, the first that the rows determine; None where
    they determine none, or a group has no row.
    """
    if set(labels[rows].tolist()) != set(labels.tolist()):
        return None
    paid = {name: values[rows] for name, values in table.items()}
    for spare in (1, 0):
        found: list[tuple[float, Way]] = []
        for way in task.plain:
            try:
                fit = fit_columns(
                    paid, way, targets=task.targets, groups=labels[rows], cost=cost[rows],
                    spare=spare,
                )  # fmt: skip
            except FitError:
                continue
            found.append((_bic(fit), way))
        if found:
            return named(min(found, key=lambda one: one[0])[1] if spare else found[0][1])
    return None


def _bic(fit: ColumnFit) -> float:
    """n ln(mean squared residual) + k ln n, over all groups and targets."""
    residuals = np.concatenate([one.residuals for one in fit.estimates.values()])
    n, k = len(residuals), sum(len(one.z) for one in fit.estimates.values())
    return float(n * np.log(np.mean(residuals**2) + 1e-300) + k * np.log(n))
