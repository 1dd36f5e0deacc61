# SPDX-License-Identifier: Apache-2.0
"""Which job a free worker gets: of the program that it has compiled, long ones first, trunks before
their branches."""

import collections
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

WATCH_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalJob:
    """A job to be done here.

    Attributes:
      id: of the job.
      program: what it compiles; jobs of one program stay together.
      size: large ones first.
      after: the job that must have been done before, or None.
    """

    id: str
    program: Hashable
    size: float
    after: str | None = None


@dataclass
class JobQueue:
    """Jobs left, grouped by compiled program: a worker stays with a program while it lasts."""

    groups: dict[Hashable, collections.deque[LocalJob]] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)
    taken: set[Hashable] = field(default_factory=set)
    later: list[LocalJob] = field(default_factory=list)
    undone: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, jobs: Sequence[LocalJob]) -> "JobQueue":
        """Groups by decreasing size of their largest job: long ones first."""
        queue = cls(undone={job.id for job in jobs})
        for job in sorted(jobs, key=lambda job: -job.size):
            queue.groups.setdefault(job.program, collections.deque()).append(job)
        return queue

    def take(
        self, last: LocalJob | None, is_stopping: Callable[[], bool] = lambda: False
    ) -> LocalJob | None:
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

    def _ready(self, key: Hashable) -> LocalJob | None:
        return next((job for job in self.groups[key] if job.after not in self.undone), None)

    def done(self, job: LocalJob) -> None:
        """Lets those begin that waited for it."""
        with self.changed:
            self.undone.discard(job.id)
            self.changed.notify_all()

    def drop(self, job: LocalJob) -> list[LocalJob]:
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

    def give_back(self, job: LocalJob) -> None:
        with self.changed:
            self.groups[job.program].appendleft(job)
            self.changed.notify_all()

    def put_off(self, job: LocalJob) -> bool:
        """Asks for it again at the end, as another has it; whether there is anything else to do."""
        with self.changed:
            self.later.append(job)
            return any(self._ready(key) is not None for key in self.groups)
