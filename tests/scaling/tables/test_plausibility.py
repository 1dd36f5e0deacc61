# SPDX-License-Identifier: Apache-2.0
"""Rows that are checkpoints of runs are told from runs at several budgets."""

from dataclasses import replace

import numpy as np
import pytest

from scaling.tables.runs import Runs

EVENLY = np.arange(1, 13) * 1e9
SIZES = np.array([1e8, 2e8, 4e8])


def table(tokens, extra=(), **known):
    """Every size at all of these numbers of tokens."""
    n = np.repeat(SIZES, np.shape(tokens)[-1])
    d = np.broadcast_to(tokens, (3, np.shape(tokens)[-1])).reshape(-1)
    runs = Runs.from_columns(
        n_params=n,
        n_tokens=d,
        loss_nats=2 + 1e3 / n**0.5 + 1e3 / d**0.4,
        params_convention="total",
        flops_convention="6n_total",
        **known,
    )
    runs = replace(runs, extra=dict(extra))
    return [one for one in runs.findings if "checkpoints" in one]


def test_rows_along_runs_are_found_by_their_name_or_without():
    names = np.repeat(["a", "b", "c"], len(EVENLY))
    said = "36 rows look like checkpoints of 3 runs"
    (of_name,) = table(EVENLY, {"run_name": names})
    assert of_name.startswith(said)
    assert "--columns cluster_id=run_name" in of_name
    (without,) = table(np.arange(1, 37).reshape(3, 12) * 1e9, {"note": np.array(["same"] * 36)})
    assert without.startswith(said)
    assert "cluster_id=COLUMN" in without


@pytest.mark.parametrize(
    ("tokens", "known"),
    [
        (np.geomspace(1e9, 1e11, 12), {}),
        (EVENLY[:6], {}),
        (np.repeat(EVENLY, 2), {}),
        (EVENLY, {"cluster_id": np.repeat(["a", "b", "c"], len(EVENLY))}),
    ],
    ids=["budgets", "few of each", "repeats", "already said"],
)
def test_runs_of_their_own_are_not_taken_for_checkpoints(tokens, known):
    assert table(tokens, **known) == []
