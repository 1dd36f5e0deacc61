# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np

from experiments.report.fits.analysis import _of_seeds
from scaling.tables.runs import Runs


def crossed(losses):
    """Two sizes at a budget, each with every pair of two and three seeds."""
    init, data = np.indices((2, 2, 3)).reshape(3, -1)[1:]
    runs = Runs.from_columns(
        n_params=np.repeat([1e4, 2e4], 6), n_tokens=np.full(12, 1e6), loss_nats=losses,
        budget=np.full(12, 1e10),
    )  # fmt: skip
    return dataclasses.replace(runs, extra={"seed": init, "data_seed": data})


def test_the_spread_of_crossed_seeds_is_told_apart():
    """Rows 0.1 apart, columns 0.3: standard deviations 0.1 / sqrt 2 and 0.3."""
    table = np.array([[1.0, 1.3, 1.6], [1.1, 1.4, 1.7]])
    runs = crossed(np.concatenate([table.ravel(), 2 + table.ravel()]))
    (sentence,) = _of_seeds(runs)
    assert "initialisation 0.0707, order of the data 0.3000, the rest 0.0000 (2 points" in sentence


def test_seeds_that_are_not_crossed_say_nothing():
    runs = crossed(np.linspace(1, 2, 12))
    same = dataclasses.replace(runs, extra={"seed": np.arange(12), "data_seed": np.arange(12)})
    assert _of_seeds(same) == ()
    holes = runs.select(np.arange(12) % 6 != 5)
    assert _of_seeds(holes) == ()
