# SPDX-License-Identifier: Apache-2.0
"""Which runs are forecast from below a budget, and how their forecasts are counted."""

import numpy as np

from experiments.benchmarks.holdout import BY, cuts, page, summary, tables
from scaling.tables.runs import Runs


def line(flops):
    flops = np.asarray(flops, float)
    same = np.ones(len(flops))
    return Runs.from_columns(n_params=same, n_tokens=flops / 6, loss_nats=same)


def test_a_cut_has_runs_enough_below_and_some_beyond():
    """Eleven runs are too few below; 30 times as much is too far beyond."""
    assert cuts(line([1e18] * 12 + [3e18])) == [1e18]
    assert cuts(line([1e18] * 11 + [3e18])) == []
    assert cuts(line([1e18] * 12 + [3e19])) == []
    many = cuts(line([*[1e18] * 12, *np.geomspace(1e18, 1e20, 9)]))
    assert len(many) == 4
    assert many[0] == 1e18


def told(*inside, width=0.1, error=0.02):
    return [{by: {"inside": one, "width": width, "error": error} for by in BY} for one in inside]


def test_tables_count_alike_and_runs_beside_them():
    """Of two tables, 1 of 1 and 1 of 4: 0.625 by table, 0.4 by run."""
    few = summary(told(True))
    many = summary(told(True, False, False, False, width=0.3, error=-0.04))
    assert many["average"] == {"inside": 0.25, "width": 0.3, "error": 0.04}
    known = {"command": "x", "device": "d", "cores": 1, "python": "3", "version_jax": "0"}
    record = known | {"git_commit": "0" * 40, "reaches": {"2 to 5": {"few": few, "many": many}}}
    assert "| average | 0.625 | 0.400 | 20.00 | 3.00 |" in page(record)
    assert "| many | 4 | 0.25 | 0.25 | 0.25 | 0.25 |" in page(record)


def test_a_way_without_intervals_covers_nothing():
    of = summary(told(False, width=None))
    assert (of["curved"]["inside"], of["curved"]["width"]) == (0.0, None)


def test_every_published_table_of_runs_is_there():
    assert min(len(runs) for runs in tables().values()) >= 20
    assert len(tables()) == 15
