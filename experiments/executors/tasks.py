# SPDX-License-Identifier: Apache-2.0
"""Jobs -> batches of like tasks, for schedulers that start many copies of one request."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.executors.base import Resources

GIB = 2**30
# Jobs share a task up to here: starting Python and JAX is then a few per cent of it.
TASK_SECONDS = 600.0
# An estimate is of training alone, perhaps elsewhere; compilation and start-up come on top.
TIME_FACTOR, START_SECONDS, SHORTEST_LIMIT = 1.5, 300.0, 900.0

Task = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Tasks that may be asked for in one request.

    Attributes:
      needs: of each task; memory is rounded up, seconds is the time limit with margin or None.
      tasks: the ids of each, to be worked on one after the other.
    """

    needs: Resources
    tasks: tuple[Task, ...]

    @property
    def n_jobs(self) -> int:
        return sum(len(task) for task in self.tasks)


def batches(jobs: Sequence[tuple[str, Resources]], max_tasks: int) -> list[Batch]:
    """Jobs by what they need, in the order given; short ones share a task.

    Memory and time are rounded up to powers of two (from 1 GiB, from 15 minutes), so that a ladder
    of sizes becomes a few requests rather than one per size.

    Args:
      jobs: id and resources of each.
      max_tasks: the most tasks of one request, >= 1.
    """
    sizes: dict[Resources, list[tuple[str, Resources]]] = {}
    for name, resources in jobs:
        memory = _power_of_two(resources.memory_bytes, GIB)
        sizes.setdefault(replace(resources, memory_bytes=memory, seconds=None), []).append(
            (name, resources)
        )
    requests: dict[Resources, list[Task]] = {}
    for size, members in sizes.items():
        for task, seconds in _tasks(members):
            requests.setdefault(replace(size, seconds=_limit(seconds)), []).append(task)
    return [
        Batch(needs=needs, tasks=tuple(tasks[start : start + max_tasks]))
        for needs, tasks in requests.items()
        for start in range(0, len(tasks), max_tasks)
    ]


def _tasks(jobs: list[tuple[str, Resources]]) -> Iterator[tuple[Task, float | None]]:
    """Neighbours together while they fit TASK_SECONDS; a job of unknown length stays alone."""
    ids: list[str] = []
    total = 0.0
    for name, resources in jobs:
        # The processes of a job that spans hosts meet once: such a job has its task to itself.
        if resources.seconds is None or resources.n_processes > 1:
            yield (name,), resources.seconds
            continue
        if ids and total + resources.seconds > TASK_SECONDS:
            yield tuple(ids), total
            ids, total = [], 0.0
        ids.append(name)
        total += resources.seconds
    if ids:
        yield tuple(ids), total


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
