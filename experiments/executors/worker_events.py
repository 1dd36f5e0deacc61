# SPDX-License-Identifier: Apache-2.0
"""What a worker says on its standard output: one event a line, in JSON."""

import msgspec


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of one run of a job, in short; the whole is in the ledger."""

    status: str = "ok"
    loss_nats: float | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="progress"):
    """Where a job is.

    Attributes:
      id: of the job.
      step, resumed_at: steps done, and those that earlier attempts had done.
      n_tokens: that one of its runs has seen.
      train_seconds: of this attempt, in steps.
      loss_nats: of its first run, nats per token; None where it is not finite.
    """

    id: str
    step: int
    resumed_at: int
    n_tokens: int
    train_seconds: float
    loss_nats: float | None


class Done(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="done"):
    """All of its results are in the ledger."""

    id: str
    runs: tuple[Run, ...] = ()


class Preempted(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="preempted"):
    """Asked to stop; what was done is saved."""

    id: str


class _Why(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    id: str
    reason: str


class Owned(_Why, frozen=True, tag="owned"):
    """Somebody alive has the job."""


class GaveUp(_Why, frozen=True, tag="gave up"):
    """It failed too often before, and was not tried."""


class Failed(_Why, frozen=True, tag="failed"):
    """This attempt did; the worker goes on with the next job."""


class Refused(_Why, frozen=True, tag="refused"):
    """The job, its data or the worker's arguments are not what they should be."""


class DiskFailed(_Why, frozen=True, tag="disk"):
    """The study's folder cannot be read or written."""


Event = Progress | Done | Preempted | Owned | GaveUp | Failed | Refused | DiskFailed


def encode(event: Event) -> str:
    return msgspec.json.encode(event).decode()


def decode(line: str) -> Event | None:
    """The event of a line; None for lines that libraries print."""
    try:
        return msgspec.json.decode(line, type=Event)
    except msgspec.DecodeError:
        return None
