# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np

from experiments.report.fits.analysis import _of_flags
from scaling.tables.runs import Runs


def flagged(cells, status=("ok",) * 4):
    runs = Runs.from_columns(
        n_params=np.full(4, 1e4), n_tokens=np.full(4, 1e6), loss_nats=np.full(4, 2.0), status=status
    )
    return dataclasses.replace(runs, extra={"flags": np.array(cells)})


def test_flags_of_the_fitted_runs_are_counted():
    cells = ["spike", "spike batch_at_bound", "", "spike"]
    (sentence,) = _of_flags(flagged(cells, ("ok", "ok", "ok", "diverged")))
    assert sentence == ("flagged of 3 runs, and fitted like the others: spike 2, batch_at_bound 1.")


def test_no_flags_say_nothing():
    assert _of_flags(flagged([np.nan] * 4)) == ()
