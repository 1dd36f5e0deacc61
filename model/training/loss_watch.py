# SPDX-License-Identifier: Apache-2.0
"""Training losses as they come from the devices, and where they left the finite numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from model.training.step import LOSS


class ChunkLosses(NamedTuple):
    """A chunk's last step; by run its mean loss and the metrics of that step, by name. NaN for what
    diverged."""

    step: int
    losses: list[float]
    last: list[dict[str, float]]


class Losses:
    """The losses of a chunk of steps, which may come in parts.

    Attributes:
      step: steps whose losses have come.
      diverged_at: by run, the first step (from 1) whose loss is not finite, or after which it was
        given up, or 0.
      is_given_up: whether those that had not diverged were.
    """

    def __init__(self, step: int, diverged_at: Sequence[int]):
        self.step, self.diverged_at = step, list(diverged_at)
        self.is_given_up = False
        self._parts: list[Mapping[str, np.ndarray]] = []
        self._chunks: list[ChunkLosses] = []

    @property
    def all_diverged(self) -> bool:
        return all(self.diverged_at)

    def give_up(self) -> None:
        """Ends all runs that live; the reason is theirs who gave the order."""
        self.diverged_at = [at or self.step for at in self.diverged_at]
        self.is_given_up = True

    def status(self, run: int) -> Literal["ok", "diverged", "stopped"]:
        """Of a run whose losses have all come."""
        if not self.diverged_at[run]:
            return "ok"
        is_stopped = self.is_given_up and self.diverged_at[run] == self.step
        return "stopped" if is_stopped else "diverged"

    def reason(self, run: int) -> str:
        """A sentence if the run has diverged, or was given up, else empty."""
        step = self.diverged_at[run]
        if self.status(run) == "stopped":
            return f"given up after step {step}"
        return f"training loss is not finite at step {step}" if step else ""

    def add(self, metrics: Mapping[str, Float[np.ndarray, "R n"]]) -> None:
        """Those of the next steps; nothing counts any more once all runs have diverged."""
        if self.all_diverged:
            return
        losses = metrics[LOSS]
        for run, finite in enumerate(np.isfinite(losses)):
            if not self.diverged_at[run] and not finite.all():
                self.diverged_at[run] = self.step + int(np.argmin(finite)) + 1
        if not self.all_diverged:
            self.step += losses.shape[1]
            self._parts.append(metrics)

    def end_chunk(self) -> None:
        """What has been added since the last chunk is one, if it is anything."""
        if not self._parts or self.all_diverged:
            return
        losses = np.concatenate([part[LOSS] for part in self._parts], axis=1)
        last = {
            name: self._alive(values[:, -1].tolist()) for name, values in self._parts[-1].items()
        }
        self._parts = []
        means = self._alive([float(row.mean()) for row in losses])
        by_run = [{name: values[run] for name, values in last.items()} for run in range(len(means))]
        self._chunks.append(ChunkLosses(self.step, means, by_run))

    def take(self) -> list[ChunkLosses]:
        """Each chunk that has ended since the last call."""
        taken, self._chunks = self._chunks, []
        return taken

    def _alive(self, values: list[float]) -> list[float]:
        pairs = zip(values, self.diverged_at, strict=True)
        return [math.nan if diverged_at else value for value, diverged_at in pairs]
