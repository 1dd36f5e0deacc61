# SPDX-License-Identifier: Apache-2.0
"""What an executor is told and what it must do: ids and resources, nothing of models or laws."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from experiments.executors.worker_events import Event


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What a job needs.

    Attributes:
      n_processes: of one job; more than one means several hosts that train together.
      n_cpus, n_gpus: per process.
      memory_bytes: of host memory, per process.
      seconds: expected, or None when nothing was measured.
    """

    n_processes: int
    n_cpus: int
    n_gpus: int
    memory_bytes: int
    seconds: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class QueuedJob:
    """A job that is to be trained.

    Attributes:
      id: of the job.
      needs: of it alone.
      flops: that it spends: what takes long should begin early.
      program: what it compiles; jobs of one program are best left to one worker.
      after: the job that must have been done before, or None.
    """

    id: str
    needs: Resources
    flops: float
    program: Hashable = None
    after: str | None = None


class Watcher(Protocol):
    """Is told what becomes of jobs, by an executor that can see it; called from several threads."""

    def event(self, slot: int, job_id: str, event: Event) -> None: ...

    def died(
        self, slot: int, job_id: str, pid: int, reason: str
    ) -> Literal["again", "done", "lost"]:
        """A worker ended in the middle of a job; what is to become of it."""
        ...


class Executor(Protocol):
    """Has workers train jobs. What became of them stands in the ledger, never with an executor."""

    def run(self, root: Path, jobs: Sequence[QueuedJob], watcher: Watcher) -> str | None:
        """Trains jobs here, or starts what is not started yet elsewhere.

        Args:
          root: folder of the study, results/<study>.
          jobs: without a result; those that others begin from come before them.

        Returns:
          None when every job has ended; of an engine that goes on without us, what the user may
          look at, in words.

        Raises:
          ValueError: if workers or the engine refuse: the same again would be refused again.
        """
        ...
