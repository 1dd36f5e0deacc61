# SPDX-License-Identifier: Apache-2.0
"""What an executor is told and what it must do: ids and resources, nothing of models or laws."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


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


class Executor(Protocol):
    """Starts workers for jobs. Status comes from the ledger, never from an executor."""

    def submit(self, root: Path, jobs: Sequence[tuple[str, Resources]]) -> str:
        """Starts what is not started; returns what the user may look at, in words.

        Args:
          root: folder of the study, results/<study>.
          jobs: ids and what each needs, long ones first. Several ids, separated by spaces, are
            for one worker, in this order.
        """
        ...
