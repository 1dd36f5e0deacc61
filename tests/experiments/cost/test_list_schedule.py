# SPDX-License-Identifier: Apache-2.0
"""List scheduling against the best of all schedules, Graham's bound, and its own rule."""

import itertools
import random

import pytest

from experiments.cost.list_schedule import end_times


def best_length(seconds, after, n_workers):
    """The shortest schedule of all: every order of the jobs on every choice of workers."""
    best = float("inf")
    for order in itertools.permutations(seconds):
        if any(order.index(name) < order.index(parent) for name, parent in after.items()):
            continue
        for choice in itertools.product(range(n_workers), repeat=len(order)):
            free, ends = [0.0] * n_workers, {}
            for name, worker in zip(order, choice, strict=True):
                start = max(free[worker], ends.get(after.get(name), 0.0))
                free[worker] = ends[name] = start + seconds[name]
            best = min(best, max(free))
    return best


def problem(seed):
    """Up to five jobs, some of which wait for an earlier one, on up to three workers."""
    rng = random.Random(seed)
    names = "abcde"[: rng.randint(2, 5)]
    seconds = {name: float(rng.randint(1, 9)) for name in names}
    after = {
        name: rng.choice(names[:i]) for i, name in enumerate(names) if i and rng.random() < 0.5
    }
    return seconds, after, rng.randint(1, 3)


@pytest.mark.parametrize("seed", range(24))
def test_the_length_is_within_grahams_bound_of_the_best(seed):
    seconds, after, n_workers = problem(seed)
    length = max(end_times(seconds, after, n_workers).values())
    best = best_length(seconds, after, n_workers)
    assert best <= length <= (2 - 1 / n_workers) * best + 1e-9


def test_no_worker_has_two_jobs_none_begins_early_and_none_is_idle_while_one_could_begin():
    for seed in range(200):
        seconds, after, n_workers = problem(seed)
        ends = end_times(seconds, after, n_workers)
        assert ends.keys() == seconds.keys()
        begins = {name: ends[name] - seconds[name] for name in ends}
        for name, parent in after.items():
            assert begins[name] >= ends[parent], seed
        for now in (*begins.values(), *ends.values()):
            n_running = sum(begins[name] <= now < ends[name] for name in ends)
            waiting = [name for name in ends if begins[name] > now]
            could = [name for name in waiting if ends.get(after.get(name), 0.0) <= now]
            assert n_running <= n_workers, seed
            assert not could or n_running == n_workers, seed


def test_a_chain_takes_its_sum_however_many_workers_there_are():
    seconds = {"a": 2.0, "b": 3.0, "c": 5.0}
    for n_workers in (1, 2, 9):
        ends = end_times(seconds, {"b": "a", "c": "b"}, n_workers)
        assert ends == {"a": 2.0, "b": 5.0, "c": 10.0}


def test_equal_jobs_fill_the_workers_in_rounds():
    ends = end_times({str(i): 4.0 for i in range(10)}, {}, 4)
    assert sorted(ends.values()) == [4.0] * 4 + [8.0] * 4 + [12.0] * 2


def test_longest_first_is_as_bad_as_graham_said_and_no_worse():
    # Graham 1969, the worst case of longest first on three workers: 11 where 9 is possible.
    seconds = {str(i): s for i, s in enumerate((5.0, 5.0, 4.0, 4.0, 3.0, 3.0, 3.0))}
    assert max(end_times(seconds, {}, 3).values()) == 11.0


def test_a_short_trunk_with_a_long_branch_goes_before_longer_jobs_without():
    seconds = {"trunk": 2.0, "branch": 5.0, "x": 3.0, "y": 3.0}
    ends = end_times(seconds, {"branch": "trunk"}, 2)
    assert ends == {"trunk": 2.0, "branch": 7.0, "x": 3.0, "y": 6.0}


def test_a_trunk_is_as_urgent_as_the_longest_of_its_branches():
    for names in ("short", "long"), ("long", "short"):
        seconds = {"trunk": 2.0, "x": 6.0} | {n: {"short": 1.0, "long": 5.0}[n] for n in names}
        ends = end_times(seconds, dict.fromkeys(names, "trunk"), 1)
        assert ends == {"trunk": 2.0, "x": 8.0, "long": 13.0, "short": 14.0}


def test_branches_of_one_trunk_run_side_by_side_when_it_has_ended():
    seconds = {"trunk": 10.0, "a": 1.0, "b": 2.0, "c": 3.0}
    ends = end_times(seconds, dict.fromkeys("abc", "trunk"), 2)
    assert ends == {"trunk": 10.0, "c": 13.0, "b": 12.0, "a": 13.0}


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ({"a": "z"}, "job z"),
        ({"z": "a"}, "job z"),
        ({"a": "b", "b": "a"}, "circle"),
        ({"a": "a"}, "circle"),
    ],
)
def test_waiting_for_nothing_or_in_a_circle_is_refused(after, words):
    with pytest.raises(ValueError, match=words):
        end_times({"a": 1.0, "b": 1.0}, after, 2)


def test_nothing_ends_where_there_is_nothing_to_do():
    assert end_times({}, {}, 3) == {}
