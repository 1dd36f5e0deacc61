# SPDX-License-Identifier: Apache-2.0
"""What is said between a run and who started it: where it stands, orders, what came out. No JAX."""

import enum
import math
from dataclasses import dataclass
from typing import Literal

from model.data.source import ALL_DOMAINS
from model.network.execution import Execution
from model.training.by_context import ContextLoss


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where a run stands, after each chunk of steps.

    Attributes:
      step, n_steps: done and asked; a trunk is asked for ``until``.
      loss_nats: mean training loss of the chunk, without z-loss; NaN once a run of a pack has
        diverged.
      grad_norm: of the chunk's last step, before clipping; likewise.
      said: what the layers had to say in that step, by name; likewise.
      n_tokens: tokens trained on so far.
      resumed_at: step at which this attempt began.
      train_seconds: of this attempt, in which the devices computed its steps (clock.py); all runs
        of a pack share them.
      stall_seconds: in which they had none to compute, because data were loaded or the host was
        busy otherwise; not among these.
    """

    step: int
    n_steps: int
    loss_nats: float
    grad_norm: float
    said: dict[str, float]
    n_tokens: int
    resumed_at: int
    train_seconds: float
    stall_seconds: float


class Order(enum.IntEnum):
    """What a run may be told between two dispatches."""

    GO = 0
    SAVE_AND_STOP = 1
    STOP = 2
    GIVE_UP = 3  # For good: the runs have their results as they are.


class Interrupted(Exception):
    """A run stopped because it was ordered to.

    Attributes:
      step: up to which it had trained.
      is_saved: whether a checkpoint of that step was written.
    """

    def __init__(self, step: int, *, is_saved: bool):
        super().__init__(f"stopped at step {step}")
        self.step, self.is_saved = step, is_saved


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """A validation loss.

    Attributes:
      nats: mean per unit, of which the objective says what it is: a token.
      se_nats: its standard error over the windows, or over the documents where these are scored
        whole: how far it may lie from the loss on all of the source; None of one.
      n_units: measured on.
      n_bytes: of text that these units stand for; None where that has no meaning.
      is_bound: whether the true loss is at most this, not equal to it.
      error_rate: of a class, how often another one is thought the most probable; else None.
      by_context: by how many tokens of its window a prediction sees; () of an objective that sees
        both sides, and of runs before it was kept.
    """

    nats: float
    se_nats: float | None
    n_units: int
    n_bytes: float | None
    is_bound: bool
    error_rate: float | None = None
    by_context: tuple[ContextLoss, ...] = ()

    @property
    def bits_per_byte(self) -> float | None:
        """Of text; byte tokens are bytes, the separator that ends a document too."""
        return self._in_bits(self.nats)

    @property
    def se_bits_per_byte(self) -> float | None:
        """The standard error likewise."""
        return None if self.se_nats is None else self._in_bits(self.se_nats)

    def _in_bits(self, nats: float) -> float | None:
        """Nats per unit as bits per byte."""
        if self.n_bytes is None:
            return None
        return nats / math.log(2.0) * (self.n_units / self.n_bytes)


# The name of the whole validation set among its domains.
ALL = ALL_DOMAINS


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvePoint:
    """Validation loss on what the curve is measured on (EvalConfig), during the run."""

    step: int
    n_tokens: int
    loss_nats: float
    bits_per_byte: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """What came out of one run.

    Attributes:
      status: "ok"; "diverged" when a loss was not finite; "stopped" when it was given up. Of these
        two there are no ``losses``.
      reason: why it is not ok, else empty.
      losses: after the last step, on ALL of the validation set and on each of its domains; none of
        a trunk.
      oracle_loss_nats: the true source's loss on the same tokens, where it is known.
      curve: validation loss during the run; of a branch, after its trunk.
      params_sha256: digest of the final parameters.
      n_steps, n_tokens: trained.
      resumed_at: step at which this attempt began; of a branch, where its trunk ended.
      notes: what happened to checkpoints.
      execution: how it was computed, nothing left open.
      n_timed_steps: steps that this attempt executed; ``seconds["train"]`` is the time of these.
      seconds: by "compile", "train", "stall", "evaluate", "checkpoint", of this attempt; all runs
        of a pack share them.
    """

    status: Literal["ok", "diverged", "stopped"]
    reason: str
    losses: dict[str, Loss]
    oracle_loss_nats: float | None
    curve: tuple[CurvePoint, ...]
    params_sha256: str
    n_steps: int
    n_tokens: int
    resumed_at: int
    notes: tuple[str, ...]
    execution: Execution
    n_timed_steps: int
    seconds: dict[str, float]

    @property
    def loss_nats(self) -> float | None:
        """On the whole validation set."""
        return self.losses[ALL].nats if self.losses else None
