# SPDX-License-Identifier: Apache-2.0
"""make bench-isoflop: the page counts where its goal is met, and where it can be."""

import numpy as np
import pytest

from experiments.benchmarks.isoflop import page, simulated
from scaling.laws.registry import law_named
from scaling.tables.runs import Runs

KNOWN = {"command": "x", "device": "d", "cores": 1, "python": "3", "version_jax": "0"}


def told(**needed):
    way = {"bias": 0.01, "coverage": 0.95, "needed": 1.0}
    said = {"a": 0.5, "interval": (0.4, 0.6), "answered": 3, "departs": False, "certified": True}
    return {
        "said": {"runs": 9, "budgets": 3, "inside": 3, "per budget": said, "joint": said},
        "simulated": {
            "a": 0.5,
            "per budget": way,
            **{name: way | {"needed": width} for name, width in needed.items()},
        },
    }


def test_the_page_says_where_the_goal_is_met_and_where_it_can_be():
    tables = {
        "met": told(joint=0.6, **{"known form": 0.5}),
        "hard": told(joint=0.8, **{"known form": 0.65}),
        "impossible": told(joint=0.98, **{"known form": 0.77}),
    }
    text = page(KNOWN | {"git_commit": "0" * 40, "tables": tables})
    assert "met on 1 of 3; by a fit of the surface's own form, on 2." in text
    assert "| 1.000 | 0.980 | 0.98 | 0.77 |" in text


@pytest.mark.slow(reason="20 s: 300 fits of every way")
def test_a_fit_that_knows_the_form_needs_least():
    budget = np.repeat([1e18, 1e19, 1e20], 7)
    n_params = 0.1 * np.sqrt(budget) * np.tile(np.geomspace(0.3, 3.0, 7), 3)
    n_tokens = budget / (6 * n_params)
    loss = law_named("additive").loss((1.69, 406.4, 410.7, 0.34, 0.28), n_params, n_tokens)
    loss = loss * np.exp(0.003 * np.random.default_rng(0).standard_normal(len(loss)))
    runs = Runs.from_columns(n_params=n_params, n_tokens=n_tokens, loss_nats=loss, budget=budget)
    found = simulated(runs)
    ways = ("known form", "joint", "per budget")
    assert sorted(ways, key=lambda way: found[way]["needed"]) == list(ways)
