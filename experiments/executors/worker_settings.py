# SPDX-License-Identifier: Apache-2.0
"""What a worker process is told beside its study and its jobs: written and read here alone."""

import argparse
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

CHECKPOINT_SECONDS = 60.0
LEASE_SECONDS = 120.0
MAX_ATTEMPTS = 3
Keep = Literal["auto", "final", "none"]
# What is started, with the Python in front, the study and these settings behind it. With -P a file
# beside the study that is called like a module of Python's (glob.py) is not taken for that module.
MODULE = ("-P", "-m", "experiments.worker")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSettings:
    """How a worker trains.

    Attributes:
      mesh: sizes of the device mesh (model/network/sharding.py).
      execution: how networks are computed, in text (model/network/execution.py); empty: chosen.
      cores: that it is pinned to; empty leaves it free.
      threads: CPUs that an engine gives instead of naming them; None on accelerators.
      per_device: workers that share its devices: each answers for its share of their time.
      keep: which final weights are kept (experiments/study/study.py).
      cache: folder of compiled programs, or None.
      checkpoint_seconds: least time between two checkpoints of a run.
      lease_seconds: silence after which others may take its job over.
      max_attempts: failures without progress after which a job is left alone.
      stop_early: whether a run whose curve was forecast is given up far above its band.
    """

    mesh: tuple[int, ...] = (1, 1, 1, 1)
    execution: str = ""
    cores: tuple[int, ...] = ()
    threads: int | None = None
    per_device: int = 1
    keep: Keep = "auto"
    cache: Path | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    lease_seconds: float = LEASE_SECONDS
    max_attempts: int = MAX_ATTEMPTS
    stop_early: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.checkpoint_seconds < math.inf:
            raise ValueError(
                f"--checkpoint-seconds {self.checkpoint_seconds:g}: must be 0 or more."
            )
        if self.per_device < 1:
            raise ValueError(f"--per-device {self.per_device}: must be at least 1.")
        if self.keep not in get_args(Keep):
            raise ValueError(f"--keep {self.keep[:40]}: must be {', '.join(get_args(Keep))}.")
        check_limits(self.lease_seconds, self.max_attempts)

    def to_arguments(self) -> tuple[str, ...]:
        """As ``parser`` reads them."""
        words: list[str] = []
        for name, value in dataclasses.asdict(self).items():
            if value is not False and value not in (None, "", ()):
                text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
                words += [_flag(name), text]
        return tuple(words)


def check_limits(lease_seconds: float, max_attempts: int) -> None:
    """Raises ValueError for a lease or a number of attempts that cannot be."""
    if not 0 < lease_seconds < math.inf:
        raise ValueError(f"--lease-seconds {lease_seconds:g}: must be positive.")
    if max_attempts < 1:
        raise ValueError(f"--max-attempts {max_attempts}: must be at least 1.")


def parser() -> argparse.ArgumentParser:
    """A parent for the worker's own; what it reads are the fields of WorkerSettings."""
    made = argparse.ArgumentParser(add_help=False)
    for field in dataclasses.fields(WorkerSettings):
        read, text = _OPTIONS[field.name]
        made.add_argument(_flag(field.name), type=read, default=field.default, help=text)
    return made


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _whole_numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(",") if word)


_OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "mesh": (_whole_numbers, "four sizes, comma separated"),
    "execution": (str, "field=value, comma separated"),
    "cores": (_whole_numbers, "pin to these, comma separated"),
    "threads": (int, "CPUs, where they are not named"),
    "per_device": (int, "workers that share its devices"),
    "keep": (str, "which final weights are kept"),
    "cache": (Path, "folder of compiled programs"),
    "checkpoint_seconds": (float, "least time between two checkpoints of a run"),
    "lease_seconds": (float, "silence after which another worker may take a run over"),
    "max_attempts": (int, "failures without progress after which a run is left alone"),
    "stop_early": ("True".__eq__, "True gives up a run far above the curve that was forecast"),
}
