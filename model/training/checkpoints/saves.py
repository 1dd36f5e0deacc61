# SPDX-License-Identifier: Apache-2.0
"""When a run saves, and what it owes a checkpoint that is written while it trains on."""

import contextlib
import math
import time
from dataclasses import asdict
from types import TracebackType

import jax

from model.training.checkpoints.checkpoint import Checkpoints
from model.training.checkpoints.resume import Position
from model.training.step import TrainState

# Disk and processor write checkpoints for a tenth of the time at most: the next one waits for ten
# times what the last one took, from the copy to the digest, however little of it training waited.
SAVES_APART = 10


class Saves:
    """The checkpoints of a run while it trains, never two at a time; none without a folder.

    A context: an error that ends the run first lets what is being written become a checkpoint. Of
    several processes the others may not meet that error: there it stays unfinished.

    Args:
      seconds: least time between two; 0 where one may follow on the other.
    """

    def __init__(self, checkpoints: Checkpoints | None, seconds: float):
        self._checkpoints, self._seconds = checkpoints, seconds
        self._due_at = time.monotonic() + seconds

    def __enter__(self) -> "Saves":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and jax.process_count() == 1:
            with contextlib.suppress(Exception):  # The first error is the one to tell.
                self.finish()

    @property
    def are_kept(self) -> bool:
        """Whether there is a folder."""
        return self._checkpoints is not None

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next."""
        return time.monotonic() >= self._due_at

    @property
    def is_written(self) -> bool:
        """As that of Checkpoints."""
        return self._checkpoints is not None and self._checkpoints.is_written

    def save(self, state: TrainState, position: Position) -> None:
        """Begins to write what ``begin`` of resume.py reads, from a copy."""
        assert self._checkpoints is not None
        self._checkpoints.save(position.step, state, asdict(position))
        self._due_at = math.inf if self._seconds else 0.0

    def finish(self) -> None:
        """As that of Checkpoints."""
        if self._checkpoints is not None and (written := self._checkpoints.finish()):
            self._due_at = next_save(written.began, written.ended, self._seconds)


def next_save(began: float, ended: float, seconds: float) -> float:
    """When the next checkpoint is due after one that was written from ``began`` to ``ended``."""
    return ended + max(seconds, SAVES_APART * (ended - began)) if seconds else ended
