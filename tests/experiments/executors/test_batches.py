# SPDX-License-Identifier: Apache-2.0
"""Jobs by what they need."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from experiments.executors.base import QueuedJob, Resources
from experiments.executors.batches import TASK_JOBS, Tree, batches, new_folder, trees


def need(seconds=None, *, gib: float = 1.0, **changes) -> Resources:
    fields = {"n_processes": 1, "n_cpus": 1, "n_gpus": 0, "memory_bytes": int(gib * 2**30)}
    return Resources(**(fields | changes), seconds=seconds)


def apart(jobs):
    """Trees of one job each."""
    return [Tree((name,), needs) for name, needs in jobs]


def tasks(jobs, max_tasks=1000, **limits):
    return [batch.tasks for batch in batches(apart(jobs), max_tasks, **limits)]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([200, 200, 200, 200], [("0", "1", "2"), ("3",)]),
        ([599, 1, 1], [("0", "1"), ("2",)]),
        ([500, 200, 100], [("0",), ("1", "2")]),
        ([None, 10, None, 10], [("0",), ("1", "3"), ("2",)]),
        ([5000, 1], [("0",), ("1",)]),
    ],
)
def test_short_jobs_share_a_task_and_keep_their_order(seconds, expected):
    found = tasks([(str(n), need(s)) for n, s in enumerate(seconds)])
    assert sorted(task for batch in found for task in batch) == expected


def test_jobs_that_need_different_things_are_asked_for_apart():
    jobs = [
        ("cpu", need()),
        ("more-cpus", need(n_cpus=2)),
        ("gpu", need(n_gpus=1)),
        ("memory", need(gib=3)),
        ("as-much", need(gib=3.9)),
        ("wide", need(n_processes=2)),
    ]
    assert tasks(jobs) == [
        (("cpu",),),
        (("more-cpus",),),
        (("gpu",),),
        (("memory",), ("as-much",)),
        (("wide",),),
    ]


@pytest.mark.parametrize(
    ("gib", "asked"),
    [([0.2, 0.9], [0.9]), ([1.5, 1.9, 1.2], [1.9]), ([3, 3.9, 4.1, 345], [3.9, 4.1, 345])],
)
def test_jobs_of_like_memory_share_a_request_for_that_of_the_largest(gib, asked):
    found = batches(apart([(str(n), need(gib=x)) for n, x in enumerate(gib)]), 9)
    assert [batch.needs.memory_bytes for batch in found] == [int(x * 2**30) for x in asked]


@pytest.mark.parametrize(
    ("seconds", "limit"), [(0, 1200), (600, 1200), (601, 2400), (3600, 9600), (90_000, 153_600)]
)
def test_the_time_limit_has_a_margin_and_is_rounded_up(seconds, limit):
    (batch,) = batches(apart([("job", need(seconds))]), 1)
    assert batch.needs.seconds == limit >= 1.5 * seconds + 300


def test_a_time_limit_is_of_the_whole_task():
    (batch,) = batches(apart([(str(n), need(150)) for n in range(4)]), 1)
    assert batch.tasks == (("0", "1", "2", "3"),)
    assert batch.needs.seconds == 1200
    assert batch.n_jobs == 4


def test_processes_that_work_together_have_their_task_to_themselves():
    assert tasks([("a", need(1, n_processes=2)), ("b", need(1, n_processes=2))]) == [
        (("a",), ("b",))
    ]


def test_requests_are_split_at_the_limits():
    alone = [(str(n), need()) for n in range(7)]
    assert [len(batch) for batch in tasks(alone, 3)] == [3, 3, 1]
    short = [(str(n), need(0.0)) for n in range(5 * TASK_JOBS)]
    assert [[len(task) for task in batch] for batch in tasks(short, max_jobs=2 * TASK_JOBS)] == [
        [TASK_JOBS, TASK_JOBS],
        [TASK_JOBS, TASK_JOBS],
        [TASK_JOBS],
    ]
    assert tasks([]) == []


def test_new_folders_are_numbered_and_never_given_twice(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: new_folder(tmp_path / "slurm").name, range(80)))
    assert sorted(found) == [f"{n:06d}" for n in range(1, 81)]


@pytest.mark.parametrize(
    ("seconds", "n_processes", "expected"),
    [
        ({}, 1, [(("trunk", "a", "b"),), (("c",),)]),
        ({"trunk": 300, "a": 100, "b": 100, "c": 50}, 1, [(("trunk", "a", "b", "c"),)]),
        ({"trunk": 300, "a": 100, "b": 100, "c": 150}, 1, [(("trunk", "a", "b"), ("c",))]),
        ({"trunk": 3, "a": 1, "b": 1, "c": 1}, 2, [(("trunk", "a", "b"), ("c",))]),
    ],
)
def test_a_trunk_and_its_branches_stay_in_one_task_in_their_order(seconds, n_processes, expected):
    jobs = [
        QueuedJob(
            id=name,
            needs=need(seconds.get(name), n_processes=n_processes),
            flops=1.0,
            after={"a": "trunk", "b": "trunk"}.get(name),
        )
        for name in ("trunk", "a", "b", "c")
    ]
    found = [batch.tasks for batch in batches(trees(jobs), 1000)]
    assert sorted(task for batch in found for task in batch) == sorted(
        task for batch in expected for task in batch
    )


def test_long_trees_come_first_and_need_the_memory_of_their_largest_job():
    jobs = [
        QueuedJob(id="short", needs=need(gib=9), flops=5.0),
        QueuedJob(id="trunk", needs=need(10, gib=1), flops=4.0),
        QueuedJob(id="branch", needs=need(20, gib=3), flops=2.0, after="trunk"),
    ]
    first, second = trees(jobs)
    assert (first.ids, second.ids) == (("trunk", "branch"), ("short",))
    assert (first.needs.seconds, first.needs.memory_bytes) == (30, 3 * 2**30)
    assert second.needs.seconds is None
