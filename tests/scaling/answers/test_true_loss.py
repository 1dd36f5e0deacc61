# SPDX-License-Identifier: Apache-2.0
"""E of planted laws against a true loss that is E, and against one that is not."""

import dataclasses

import numpy as np
import pytest

from scaling.answers.true_loss import true_loss, true_loss_findings
from scaling.approaches.surface.fit import fit_surface
from scaling.tables.runs import Runs


@pytest.fixture(scope="module")
def planted():
    """L = 1 + 20 N^-0.4 + 90 D^-0.4 and a little noise."""
    n_params, n_tokens = (
        grid.ravel() for grid in np.meshgrid(np.geomspace(1e3, 1e6, 6), np.geomspace(1e5, 1e8, 5))
    )
    noise = 1e-3 * np.random.default_rng(0).standard_normal(len(n_params))
    loss = 1 + 20 * n_params**-0.4 + 90 * n_tokens**-0.4 + noise
    return Runs.from_columns(n_params=n_params, n_tokens=n_tokens, loss_nats=loss)


def told(runs, values):
    return dataclasses.replace(runs, extra={"oracle_loss_nats": np.broadcast_to(values, len(runs))})


@pytest.mark.parametrize(
    ("truth", "words"),
    [(1.0, "holds the true source's loss, 1.0000 nats."), (0.9, "does not hold the true source's")],
)
def test_a_fit_says_whether_its_floor_is_the_true_loss(planted, truth, words):
    runs = told(planted, truth)
    (said,) = true_loss_findings({"mine": fit_surface(runs, "additive", n_bootstrap=50)})
    assert said.startswith("mine: E 0.99") or said.startswith("mine: E 1.00")
    assert words in said
    nearest = planted.loss_nats.min() / truth - 1
    assert (f"the lowest of its losses is {nearest:.1%} above that" in said) is (truth == 0.9)


def test_nothing_is_said_where_no_true_loss_is_known(planted):
    two = np.where(np.arange(len(planted)) % 2, 1.0, 0.9)
    for runs in (planted, told(planted, np.nan), told(planted, two)):
        assert true_loss(runs) is None
        assert true_loss_findings({"mine": fit_surface(runs, "additive", n_bootstrap=0)}) == ()
    without = fit_surface(told(planted, 1.0), "additive", n_bootstrap=0)
    assert true_loss_findings({"no interval": without}) == ()
