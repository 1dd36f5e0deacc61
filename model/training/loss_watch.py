# SPDX-License-Identifier: Apache-2.0
"""Training losses on their way from the device, and where they left the finite numbers."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float


class ChunkLosses(NamedTuple):
    """A chunk's last step; by run its mean loss and last gradient norm, NaN for what diverged."""

    step: int
    losses: list[float]
    grad_norms: list[float]


class Losses:
    """Training losses, fetched one chunk late so that the device never waits for the host.

    Attributes:
      step: steps whose losses have been fetched.
      diverged_at: by run, the first step (from 1) whose loss is not finite, or 0.
    """

    def __init__(self, step: int, diverged_at: Sequence[int]):
        self.step, self.diverged_at = step, list(diverged_at)
        self._pending: tuple[int, Array, Array] | None = None
        self._fetched: list[ChunkLosses] = []

    @property
    def all_diverged(self) -> bool:
        return all(self.diverged_at)

    def reason(self, run: int) -> str:
        """A sentence if the run has diverged, else empty."""
        step = self.diverged_at[run]
        return f"training loss is not finite at step {step}" if step else ""

    def add(self, n: int, losses: Float[Array, "*R S"], grad_norms: Float[Array, "*R S"]) -> None:
        """Results of a chunk, of which the first ``n`` steps count."""
        self.fetch()
        self._pending = (n, losses, grad_norms)

    def fetch(self) -> None:
        if self._pending is None or self.all_diverged:
            return
        n, *arrays = self._pending
        self._pending = None
        n_runs = len(self.diverged_at)
        losses, grad_norms = (np.asarray(array).reshape(n_runs, -1)[:, :n] for array in arrays)
        for run, finite in enumerate(np.isfinite(losses)):
            if not self.diverged_at[run] and not finite.all():
                self.diverged_at[run] = self.step + int(np.argmin(finite)) + 1
        if self.all_diverged:
            return
        self.step += n
        means = [float(row.mean()) for row in losses]
        self._fetched.append(
            ChunkLosses(self.step, self._alive(means), self._alive(grad_norms[:, -1].tolist()))
        )

    def take(self) -> list[ChunkLosses]:
        """Each chunk fetched since the last call."""
        taken, self._fetched = self._fetched, []
        return taken

    def _alive(self, values: list[float]) -> list[float]:
        pairs = zip(values, self.diverged_at, strict=True)
        return [math.nan if diverged_at else value for value, diverged_at in pairs]
