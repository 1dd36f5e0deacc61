# SPDX-License-Identifier: Apache-2.0
"""Losses of a pack: the first bad step of each run, and nothing of it afterwards."""

import math

import numpy as np

from model.training.loss_watch import Losses


def told(losses: list[list[float]], norms: np.ndarray) -> dict[str, np.ndarray]:
    return {"loss_nats": np.asarray(losses), "grad_norm": norms}


def test_a_run_that_has_left_the_finite_numbers_is_told_no_more_and_the_others_are() -> None:
    losses = Losses(10, [0, 0, 4])
    norms = np.ones((3, 2))
    # The first chunk comes in two parts; the second run recovers for a step, to no avail.
    losses.add(told([[1.0, 2], [1, math.inf], [1, 1]], norms))
    assert losses.take() == []
    losses.add(told([[6.0], [2], [1]], norms[:, :1]))
    losses.end_chunk()
    losses.add(told([[1.0, 3], [5, math.nan], [1, 1]], 2 * norms))
    losses.end_chunk()
    losses.end_chunk()  # Of nothing.
    first, second = losses.take()
    assert (first.step, second.step) == (13, 15)
    assert (first.losses[0], second.losses[0]) == (3.0, 2.0)
    assert (first.last[0]["grad_norm"], second.last[0]["grad_norm"]) == (1.0, 2.0)
    assert all(math.isnan(loss) for chunk in (first, second) for loss in chunk.losses[1:])
    assert all(math.isnan(run["grad_norm"]) for each in (first, second) for run in each.last[1:])
    assert losses.diverged_at == [0, 12, 4]
    assert [losses.reason(run) for run in range(2)] == [
        "",
        "training loss is not finite at step 12",
    ]
    assert not losses.all_diverged
    assert losses.take() == []
