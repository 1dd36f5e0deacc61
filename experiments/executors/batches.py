# SPDX-License-Identifier: Apache-2.0
"""Jobs -> batches of like tasks, for schedulers that start many copies of one request."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from experiments.executors.base import QueuedJob, Resources

GIB = 2**30
# Jobs share a task up to here: starting Python and JAX is then a few per cent of it. Their number
# is limited too: all ids stand on one command line.
TASK_SECONDS, TASK_JOBS = 600.0, 100
# An estimate is of training alone, perhaps on another machine; start-up and compilation are extra.
TIME_FACTOR, START_SECONDS = 1.5, 300.0
# Tasks that are shared all have this time limit.
SHORTEST_LIMIT = TIME_FACTOR * TASK_SECONDS + START_SECONDS

Task = tuple[str, ...]


class Tree(NamedTuple):
    """A job and all that begins from it, in an order in which one worker can train them."""

    ids: Task
    needs: Resources


def trees(jobs: Sequence[QueuedJob]) -> list[Tree]:
    """Each job with all that begins from it, long trees first.

    No engine need know then that jobs have an order.
    """
    members: dict[str, list[QueuedJob]] = {}
    root: dict[str, str] = {}
    for job in jobs:
        root[job.id] = root.get(job.after or "", job.id)
        members.setdefault(root[job.id], []).append(job)
    ordered = sorted(members.values(), key=lambda tree: -sum(job.flops for job in tree))
    return [Tree(tuple(job.id for job in tree), _needs(tree)) for tree in ordered]


def _needs(tree: Sequence[QueuedJob]) -> Resources:
    largest = max((job.needs for job in tree), key=lambda needs: needs.memory_bytes)
    seconds = [job.needs.seconds for job in tree if job.needs.seconds is not None]
    return replace(largest, seconds=sum(seconds) if len(seconds) == len(tree) else None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Tasks that may be asked for in one request.

    Attributes:
      needs: of each task; memory is that of the largest job, seconds is the time limit with margin
        or None.
      tasks: the ids of each, to be worked on one after the other.
    """

    needs: Resources
    tasks: tuple[Task, ...]

    @property
    def n_jobs(self) -> int:
        return sum(len(task) for task in self.tasks)


def batches(jobs: Sequence[Tree], max_tasks: int, max_jobs: float = math.inf) -> list[Batch]:
    """Jobs by what they need, in the order given; short ones share a task.

    Jobs between the same powers of two (of memory from 1 GiB, of time from 20 minutes) share a
    request, so that a ladder of sizes becomes a few of them rather than one per size. It asks for
    the memory of its largest job and not more: a host may have just that.

    Args:
      max_tasks, max_jobs: the most of one request; at least 1 and TASK_JOBS.
    """
    sizes: dict[Resources, list[Tree]] = {}
    for tree in jobs:
        memory = _power_of_two(tree.needs.memory_bytes, GIB)
        size = replace(tree.needs, memory_bytes=memory, seconds=None)
        sizes.setdefault(size, []).append(tree)
    requests: dict[Resources, list[Task]] = {}
    for class_of, members in sizes.items():
        size = replace(class_of, memory_bytes=max(tree.needs.memory_bytes for tree in members))
        for task, seconds in _tasks(members):
            requests.setdefault(replace(size, seconds=_limit(seconds)), []).append(task)
    return [
        Batch(needs=needs, tasks=tuple(chunk))
        for needs, tasks in requests.items()
        for chunk in _chunks(tasks, max_tasks, max_jobs)
    ]


def _tasks(jobs: list[Tree]) -> Iterator[tuple[Task, float | None]]:
    """Neighbours together while they fit TASK_SECONDS; a tree of unknown length stays alone."""
    ids: list[str] = []
    total = 0.0
    for tree, needs in jobs:
        # The processes of a job that spans hosts meet once: such a job has its task to itself.
        if needs.seconds is None or needs.n_processes > 1:
            yield tree, needs.seconds
            continue
        if ids and (total + needs.seconds > TASK_SECONDS or len(ids) >= TASK_JOBS):
            yield tuple(ids), total
            ids, total = [], 0.0
        ids += tree
        total += needs.seconds
    if ids:
        yield tuple(ids), total


def _chunks(tasks: list[Task], max_tasks: int, max_jobs: float) -> Iterator[list[Task]]:
    chunk: list[Task] = []
    n_jobs = 0
    for task in tasks:
        if chunk and (len(chunk) == max_tasks or n_jobs + len(task) > max_jobs):
            yield chunk
            chunk, n_jobs = [], 0
        chunk.append(task)
        n_jobs += len(task)
    yield chunk


def _limit(seconds: float | None) -> float | None:
    if seconds is None:
        return None
    return float(_power_of_two(TIME_FACTOR * seconds + START_SECONDS, SHORTEST_LIMIT))


def _power_of_two(value: float, unit: float) -> int:
    """The least unit x 2^k, k >= 0, that is not below the value."""
    return round(unit * 2 ** max(0, math.ceil(math.log2(max(value, 1) / unit))))


def new_folder(parent: Path) -> Path:
    """A new folder with the next free number: two runners at once get two."""
    parent.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(path.name) for path in parent.glob("[0-9]*")), default=0)
    while True:
        try:
            (folder := parent / f"{number:06d}").mkdir()
            return folder
        except FileExistsError:
            number += 1
