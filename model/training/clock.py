# SPDX-License-Identifier: Apache-2.0
"""Where the time of an attempt goes, and how long a step takes."""

import time

# An order to save waits for the dispatch that runs and for the one behind it.
DISPATCH_SECONDS = 5.0


class Clock:
    """Puts every moment since its start into one account.

    "train" is the time in which the devices compute steps, whatever the host does meanwhile: it is
    what FLOP/s and prices are made of. "stall" is the time in which they have none to compute,
    because the host still loads data, or reports. "checkpoint" is the time for which training
    waited; most of a checkpoint is written while the devices train on.

    Attributes:
      seconds: by account.
      n_steps: that took ``seconds["train"]``.
    """

    def __init__(self) -> None:
        accounts = ("compile", "train", "stall", "evaluate", "checkpoint")
        self.seconds, self.n_steps = dict.fromkeys(accounts, 0.0), 0
        self._last, self._step_seconds = time.perf_counter(), DISPATCH_SECONDS

    def lap(self, account: str) -> None:
        """The time since the last entry; the devices compute no steps now."""
        self._enter(account, time.perf_counter())

    def steps(self, n: int, *, began: float, ended: float) -> None:
        """Steps that were dispatched at ``began`` and done at ``ended``, in the order in which they
        were dispatched: a device begins with them when it has done those before."""
        self._enter("stall", max(began, self._last))
        self._step_seconds = (ended - self._last) / n
        self._enter("train", ended)
        self.n_steps += n

    def dispatch_steps(self, most: int) -> int:
        """How many of ``most`` steps take DISPATCH_SECONDS; one while that is not known."""
        if self._step_seconds * most <= DISPATCH_SECONDS:
            return most
        return max(int(DISPATCH_SECONDS / self._step_seconds), 1)

    def _enter(self, account: str, now: float) -> None:
        self.seconds[account] += now - self._last
        self._last = now
