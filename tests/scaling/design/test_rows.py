# SPDX-License-Identifier: Apache-2.0
"""Rows that are paid for: the budget, what is read, and what they are worth."""

import numpy as np
import pytest

from scaling.approaches.columns import Way, fit_columns
from scaling.design.rows import _take, choose_rows
from scaling.laws.loss_laws import ADDITIVE

SIZES, LENGTHS = np.geomspace(1e7, 1e9, 10), np.geomspace(1e9, 1e11, 10)
N, D = np.repeat(SIZES, 10), np.tile(LENGTHS, 10)
COST = 6.0 * N * D
WAY = Way(law=ADDITIVE)


def table(seed=0, sd=0.003):
    noise = np.exp(sd * np.random.default_rng(seed).standard_normal(len(N)))
    return {
        "n_params": N,
        "n_tokens": D,
        "loss_nats": (1.7 + 406 / N**0.34 + 411 / D**0.28) * noise,
    }


def chosen(columns, share):
    return choose_rows(
        columns, WAY, targets=("loss_nats",), cost=COST, budget=share * float(COST.sum())
    )


@pytest.fixture(scope="module")
def rows():
    return chosen(table(), 0.05)


def test_each_row_is_taken_once_and_the_budget_is_kept(rows):
    assert len(set(rows)) == len(rows) > 7
    assert COST[rows].sum() <= 0.05 * COST.sum()


def test_targets_of_rows_that_are_not_taken_are_not_read(rows):
    """Whatever they hold, the choice is the same."""
    spoilt = table()
    others = np.setdiff1d(np.arange(len(N)), rows)
    spoilt["loss_nats"][others] = np.nan
    assert chosen(spoilt, 0.05) == rows


def test_they_predict_the_dear_rows_better_than_as_dear_ones_at_random(rows):
    dear = np.quantile(COST, 0.8) <= COST
    truth = table(sd=0.0)["loss_nats"]

    def error(some, seed):
        columns = table(seed)
        kept = {name: values[some] for name, values in columns.items()}
        fit = fit_columns(kept, WAY, targets=("loss_nats",))
        return float(np.mean((fit.predict(columns)[dear, 0] - truth[dear]) ** 2))

    rng = np.random.default_rng(9)
    ours, random = [], []
    for seed in range(6):
        some, left = [], 0.05 * COST.sum()
        for row in rng.permutation(len(N)).tolist():
            if COST[row] <= left:
                some.append(row)
                left -= COST[row]
        random.append(error(some, seed))
        ours.append(error(rows, seed))
    assert np.median(ours) < 0.5 * np.median(random)


def test_a_row_is_taken_by_the_fall_of_variance_that_it_brings():
    """Against the covariances themselves, inverted anew for each candidate."""
    rng = np.random.default_rng(2)
    slopes, cost = rng.standard_normal((9, 3)), np.ones(9)
    dear = np.arange(9) >= 6
    falls = []
    for row in range(9):
        before = np.linalg.inv(np.eye(3))
        after = np.linalg.inv(np.eye(3) + np.outer(slopes[row], slopes[row]))
        own = [np.einsum("tf,fg,tg->t", slopes[dear], c, slopes[dear]) for c in (before, after)]
        falls.append(np.mean((own[0] - own[1]) / own[0]))
    assert _take([slopes], 1.0, [], dear, cost, 9.0, 1) == [int(np.argmax(falls))]
