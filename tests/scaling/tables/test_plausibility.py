# SPDX-License-Identifier: Apache-2.0
"""Rows that are checkpoints of runs, and rows of other settings, are told from runs and repeats."""

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


def settings(**extra):
    """Two sizes, each four times at one length, losses 3 to 3.7 in the order of the rows."""
    runs = Runs.from_columns(
        n_params=np.repeat([1e8, 2e8], 4),
        n_tokens=np.repeat([2e9, 1e9], 4),
        loss_nats=3 + 0.1 * np.array([3, 2, 1, 4, 7, 6, 5, 0]),
    )
    return replace(runs, extra={name: np.array(column) for name, column in extra.items()})


def test_runs_that_differ_in_their_learning_rate_are_no_repeats():
    rates = [1e-3, 2e-3, 1e-3, 2e-3] * 2
    (said,) = settings(peak_lr=rates).findings
    assert "differ in their settings (2 of peak_lr)" in said
    for same in ({"peak_lr": np.repeat([1e-3, 2e-3], 4)}, {"seed": rates}, {"flrt": rates}):
        assert settings(**same).findings == ()


def test_the_best_of_each_size_and_length_is_kept():
    runs = settings(peak_lr=[1e-3, 2e-3, 1e-3, 2e-3] * 2)
    best = runs.best_per(["n_params", "n_tokens"])
    assert list(best.run_id) == ["run2", "run7"]
    (said,) = best.findings
    assert said.startswith("of 8 runs the best of each n_params, n_tokens: 2.")
    of_rates = runs.best_per(["n_params", "peak_lr"])
    assert list(of_rates.run_id) == ["run1", "run2", "run6", "run7"]
    broken = replace(runs, status=np.array(["ok"] * 7 + ["diverged"]))
    assert list(broken.best_per(["n_params"]).run_id) == ["run2", "run6"]
    with pytest.raises(ValueError, match="no column 'lr' to take the best run of; columns: run_id"):
        runs.best_per(["lr"])
