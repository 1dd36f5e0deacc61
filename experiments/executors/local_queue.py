# SPDX-License-Identifier: Apache-2.0
"""Which job a free worker gets: of the program that it has compiled, long ones first, trunks before
their branches."""

import collections
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from experiments.executors.base import QueuedJob

WATCH_SECONDS = 0.1


@dataclass
class JobQueue:
    """Jobs left, grouped by compiled program: a worker stays with a program while it lasts."""

    groups: dict[Hashable, collections.deque[QueuedJob]] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)
    taken: set[Hashable] = field(default_factory=set)
    later: list[QueuedJob] = field(default_factory=list)
    undone: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, jobs: Sequence[QueuedJob]) -> "JobQueue":
        """Groups by the longest chain that begins with one of their jobs: long ones first."""
        queue, ahead = cls(undone={job.id for job in jobs}), _flops_ahead(jobs)
        for job in sorted(jobs, key=lambda job: -ahead[job.id]):
            queue.groups.setdefault(job.program, collections.deque()).append(job)
        return queue

    def take(
        self, last: QueuedJob | None, is_stopping: Callable[[], bool] = lambda: False
    ) -> QueuedJob | None:
        """The next job that need not wait for another; waits while there are only such.

        Of the program of ``last`` where there is one. None at the end, or when told to stop.
        """
        with self.changed:
            while not is_stopping():
                ready = {key: job for key in self.groups if (job := self._ready(key)) is not None}
                if ready:
                    fresh = [key for key in ready if key not in self.taken] or list(ready)
                    is_same = last is not None and last.program in ready
                    key = last.program if last is not None and is_same else fresh[0]
                    self.taken.add(key)
                    self.groups[key].remove(ready[key])
                    return ready[key]
                if self.later:
                    return self.later.pop(0)
                if not any(self.groups.values()):
                    return None
                self.changed.wait(WATCH_SECONDS)
        return None

    def _ready(self, key: Hashable) -> QueuedJob | None:
        return next((job for job in self.groups[key] if job.after not in self.undone), None)

    def done(self, job: QueuedJob) -> None:
        """Lets those begin that waited for it."""
        with self.changed:
            self.undone.discard(job.id)
            self.changed.notify_all()

    def drop(self, job: QueuedJob) -> list[QueuedJob]:
        """Takes out all that waited for a job which will not be done, and returns them."""
        with self.changed:
            dropped = [job]
            for lost in dropped:
                for group in self.groups.values():
                    waiting = [one for one in group if one.after == lost.id]
                    dropped += waiting
                    for one in waiting:
                        group.remove(one)
            self.changed.notify_all()
            return dropped[1:]

    def give_back(self, job: QueuedJob) -> None:
        with self.changed:
            self.groups[job.program].appendleft(job)
            self.changed.notify_all()

    def put_off(self, job: QueuedJob) -> bool:
        """Asks for it again at the end, as another has it; whether there is anything else to do."""
        with self.changed:
            self.later.append(job)
            return any(self._ready(key) is not None for key in self.groups)


def _flops_ahead(jobs: Sequence[QueuedJob]) -> dict[str, float]:
    """Of each job, what the longest chain that begins with it costs: such a one should begin soon.

    Jobs come after those that they begin from.
    """
    ahead: dict[str, float] = {}
    after: dict[str, float] = {}
    for job in reversed(jobs):
        ahead[job.id] = job.flops + after.get(job.id, 0.0)
        if job.after is not None:
            after[job.after] = max(after.get(job.after, 0.0), ahead[job.id])
    return ahead
