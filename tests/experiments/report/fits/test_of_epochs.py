# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np

from experiments.report.fits.analysis import _of_epochs
from scaling.tables.runs import Runs


def read_so_often(epochs):
    """The last run diverged."""
    n = len(epochs)
    runs = Runs.from_columns(
        n_params=np.full(n, 1e4), n_tokens=np.full(n, 1e6), loss_nats=np.full(n, 2.0),
        status=["ok"] * (n - 1) + ["diverged"],
    )  # fmt: skip
    return dataclasses.replace(runs, extra={"epochs": np.array(epochs)})


def test_fitted_runs_that_read_their_data_again_are_counted():
    (said,) = _of_epochs(read_so_often([0.5, 1.0, 1.5, 3.789, 9.0]))
    assert said.startswith("2 of 4 runs read their training data more than once, up to 3.79 times:")


def test_data_without_an_end_and_single_passes_say_nothing():
    assert _of_epochs(read_so_often([0.5, 1.0, np.nan, 9.0])) == ()
