# SPDX-License-Identifier: Apache-2.0
"""What the validation set's own error does to E and to the loss at the optimum."""

import dataclasses
import re

import numpy as np
import pytest

from experiments.report.fits.analysis import _of_other_text
from scaling.answers.frontier import frontier
from scaling.approaches.surface.fit import fit_surface
from scaling.tables.runs import Runs


@pytest.fixture(scope="module")
def runs():
    n_params = np.repeat(np.geomspace(1e4, 1e5, 5), 4)
    n_tokens = np.tile(np.geomspace(2e5, 5e6, 4), 5)
    noise = np.exp(0.005 * np.random.default_rng(0).standard_normal(20))
    loss = (1.2 + 60 * n_params**-0.5 + 90 * n_tokens**-0.4) * noise
    return Runs.from_columns(n_params=n_params, n_tokens=n_tokens, loss_nats=loss)


def ends(sentence, what):
    return [
        float(x) for x in re.search(rf"{what} [\d.]+ \(([\d.]+) to ([\d.]+)\)", sentence).groups()
    ]


def test_both_intervals_grow_by_the_error_of_the_set(runs):
    fit = fit_surface(runs, "additive", n_bootstrap=60)
    front = frontier(fit, [1e11])
    asked = dataclasses.replace(runs, extra={"loss_se_nats": np.full(20, 0.3)})
    (sentence,) = _of_other_text(asked, {"additive": fit}, {"additive": front})
    assert "standard error is 0.3000 nats" in sentence
    # An error so large is nearly all that is left: 1.96 of it on either side.
    lower, upper = ends(sentence, "E")
    assert 1.96 * 0.3 < fit.parameters["E"] - lower < 1.96 * 0.3 + 0.5
    assert 1.96 * 0.3 < upper - fit.parameters["E"] < 1.96 * 0.3 + 0.5
    lower, upper = ends(sentence, r"L\* at 1e11 FLOPs")
    assert (upper - lower) / 2 == pytest.approx(1.96 * 0.3, rel=0.02)


def test_nothing_is_said_where_the_error_is_not_known(runs):
    fit = fit_surface(runs, "additive", n_bootstrap=0)
    fronts = {"additive": frontier(fit, [1e11])}
    assert _of_other_text(runs, {"additive": fit}, fronts) == ()
    blank = dataclasses.replace(runs, extra={"loss_se_nats": np.full(20, np.nan)})
    assert _of_other_text(blank, {"additive": fit}, fronts) == ()
