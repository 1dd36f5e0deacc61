# SPDX-License-Identifier: Apache-2.0
"""The page of make bench-noise from tables that were made up."""

import numpy as np

from experiments.benchmarks.noise import AS_IT_IS, VARIANTS, page, points
from experiments.cli.opening.load_study import load_study
from experiments.cli.opening.overrides import overridden

# Two budgets with a size each; seeds of the initialisation add 0.1, those of the data 0.3.
LOSSES = 2 + 0.1 * np.arange(3)[:, None] + 0.3 * np.arange(3)


def table(shift=0.0):
    rows = [
        f"{budget},{16},{i},{d},{LOSSES[i, d] + shift + n}"
        for n, budget in enumerate((1e10, 3e10))
        for i in range(3)
        for d in range(3)
    ]
    return "\n".join(["budget,d_model,seed,data_seed,loss_nats", *reversed(rows)])


def rows_of(text, name):
    lines = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_spread_is_told_apart_and_losses_are_set_against_the_recipe_as_it_is():
    record = {
        **{"command": "make bench-noise", "study": "quickstart", "device": "an abacus", "cores": 2},
        **{"python": "3.11.2", "version_jax": "0.10", "git_commit": "0123456789"},
        "budgets": (1e10, 3e10),
        "points": {AS_IT_IS: points(table()), "Muon": points(table(-0.25))},
    }
    text = page(record)
    by_cause = ["0.3162", "0.1000", "0.3000", "0.0000"]
    worst = f"{np.std(LOSSES, ddof=1):.4f}"
    assert rows_of(text, AS_IT_IS) == [[AS_IT_IS, *by_cause, worst, "+0.0000"]]
    assert rows_of(text, "Muon") == [["Muon", *by_cause, worst, "-0.2500"]]
    assert rows_of(text, "3e+10") == [["3e+10", "16", f"{LOSSES.mean() + 1:.4f}", *by_cause]]


def test_every_variant_is_a_study():
    study = load_study("quickstart")
    recipes = [overridden(study, list(changes)).recipe for changes in VARIANTS.values()]
    assert len(set(recipes)) == len(VARIANTS)
