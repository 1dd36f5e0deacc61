# SPDX-License-Identifier: Apache-2.0
"""Every moment is in one account, and a dispatch is as long as its steps allow."""

import math

import pytest

from model.training import clock
from model.training.clock import Clock


class Hands:
    """Where the clock stands, in seconds."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    hands = Hands()
    monkeypatch.setattr(clock, "time", hands)
    return hands


@pytest.mark.parametrize(
    ("dispatches", "train", "stall"),
    [
        (
            [(0.0, 2.0), (1.0, 4.0), (3.0, 6.0)],
            6.0,
            0.0,
        ),  # Each is there when the one before is done.
        ([(0.0, 2.0), (5.0, 7.0), (10.0, 12.0)], 6.0, 6.0),  # Three seconds too late each time.
        ([(0.0, 2.0), (1.0, 4.0), (5.0, 7.0)], 6.0, 1.0),
        ([(3.0, 5.0)], 2.0, 3.0),
    ],
)
def test_train_is_when_the_devices_compute_and_stall_is_when_they_could(
    hands: Hands, dispatches: list, train: float, stall: float
) -> None:
    times = Clock()
    for began, ended in dispatches:
        hands.now = 100.0  # When the host comes to look does not matter.
        times.steps(2, began=began, ended=ended)
    assert (times.seconds["train"], times.seconds["stall"]) == (train, stall)
    assert times.n_steps == 2 * len(dispatches)


def test_the_accounts_add_up_to_all_the_time_there_was(hands: Hands) -> None:
    times = Clock()
    hands.now = 7.0
    times.lap("compile")
    times.steps(1, began=8.0, ended=10.0)
    hands.now = 10.5
    times.lap("stall")
    hands.now = 13.0
    times.lap("evaluate")
    times.steps(1, began=13.0, ended=14.0)
    expected = {"compile": 7.0, "train": 3.0, "stall": 1.5, "evaluate": 2.5, "checkpoint": 0.0}
    assert times.seconds == expected
    assert sum(expected.values()) == 14.0


@pytest.mark.parametrize(
    ("step_seconds", "n"),
    [(0.001, 32), (5 / 32, 32), (0.2, 25), (1.0, 5), (2.0, 2), (4.9, 1), (11.0, 1), (600.0, 1)],
)
def test_a_dispatch_takes_five_seconds_at_most_or_one_step(
    hands: Hands, step_seconds: float, n: int
) -> None:
    times = Clock()
    assert times.dispatch_steps(32) == 1, "how long a step takes is not known yet"
    times.steps(4, began=0.0, ended=4 * step_seconds)
    assert times.dispatch_steps(32) == n
    assert times.dispatch_steps(2) == min(n, 2)
    assert n == 1 or n * step_seconds <= 5


def test_the_newest_dispatch_says_how_long_a_step_takes(hands: Hands) -> None:
    """Without the time in which the devices waited for it."""
    times = Clock()
    times.steps(1, began=0.0, ended=60.0)
    times.steps(1, began=100.0, ended=101.0)
    assert times.dispatch_steps(32) == 5
    assert math.isclose(sum(times.seconds.values()), 101.0)
