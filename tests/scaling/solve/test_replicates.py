# SPDX-License-Identifier: Apache-2.0
"""Replicates begin at every start only as long as that leads lower."""

import numpy as np
import pytest

from scaling.laws.loss_laws import ADDITIVE
from scaling.solve import replicates
from scaling.solve.problem import set_up
from scaling.solve.regression import estimate

THETA = (1.69, 406.4, 410.7, 0.34, 0.28)
N_TRIED, N_ALL = 6, 20


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    columns = {"n_params": rng.uniform(1e7, 1e9, 40), "n_tokens": rng.uniform(1e9, 1e11, 40)}
    loss = ADDITIVE.loss(THETA, columns["n_params"], columns["n_tokens"])
    found = estimate(set_up(ADDITIVE, columns, loss * np.exp(0.003 * rng.standard_normal(40))))
    y = found.problem.y + 0.003 * rng.standard_normal((N_ALL, 40))
    return found, y, np.ones_like(y)


def test_the_others_begin_at_the_estimate_alone_where_no_other_start_helps(fitted):
    found, y, weights = fitted
    few = replicates.replicate(found, y, weights, n_tried=N_TRIED)
    assert few.n_starts.tolist() == [4] * N_TRIED + [1] * (N_ALL - N_TRIED)
    every = replicates.replicate(found, y, weights)
    assert set(every.n_starts) == {4}
    np.testing.assert_allclose(few.z, every.z, rtol=1e-9)
    assert few.n_single <= every.n_single


def test_a_start_that_helps_one_is_tried_by_all(fitted, monkeypatch):
    """One of the first begins so far away that its descent from the estimate fails."""
    found, y, weights = fitted
    descend = replicates.Descents.descend
    calls = []

    def failing(self, begin):
        solved = descend(self, begin)
        if not calls:
            solved.objective[2] *= 2.0
        calls.append(len(begin))
        return solved

    monkeypatch.setattr(replicates.Descents, "descend", failing)
    drawn = replicates.replicate(found, y, weights, n_tried=N_TRIED)
    assert drawn.n_starts.tolist() == [4] * N_TRIED + [2] * (N_ALL - N_TRIED)
    assert calls == [N_TRIED] * 4 + [N_ALL - N_TRIED] * 2
