# SPDX-License-Identifier: Apache-2.0
"""What the process that checks and the process that compiles say to each other, as JSON.

The one asks once; the other answers with an event per line: the devices first, then for every
program what it compiles and what came of it.
"""

import msgspec

from model.network.config import ModelConfig
from model.training.config import TrainConfig


class ProgramToCompile(msgspec.Struct, frozen=True, kw_only=True):
    """A training step."""

    model: ModelConfig
    train: TrainConfig


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be compiled.

    Attributes:
      topology: name of a slice of TPUs, or None for the devices that are here.
      wraps_at: of its family (topology.py); 0 without.
      n_threads: CPUs that the compiling process may use.
      mesh: sizes of the mesh axes.
      execution: as Execution.to_text; what it leaves open is tried.
      programs: by key.
    """

    topology: str | None
    wraps_at: int
    n_threads: int
    mesh: tuple[int, ...]
    execution: str
    programs: dict[str, ProgramToCompile]


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """One line of the answer."""


class Devices(Event, frozen=True, kw_only=True, tag="devices"):
    """What is known of the devices.

    Attributes:
      memory_bytes: of one.
      links: mesh axis -> links that a collective over it uses.
      measured: dtype -> FLOP/s of one, where no table knows the kind.
      versions: of what compiles.
    """

    kind: str
    platform: str
    n_devices: int
    memory_bytes: float
    links: dict[str, int]
    measured: dict[str, float]
    versions: dict[str, str]


class Compiling(Event, frozen=True, kw_only=True, tag="compiling"):
    """A setting that is being tried."""

    key: str
    execution: str


class Compiled(Event, frozen=True, kw_only=True, tag="compiled"):
    """What came of it.

    Attributes:
      needed_bytes: of one device; more than there is where the compiler gave up, 0 if not said.
      collectives: kind -> bytes per device and step, as compiled (hlo.py).
      compiler_says: why it gave up.
      state_bytes: of one device.
      seconds, host_memory_bytes: that compiling took.
      n_rematerializations: warnings of the compiler, that it copied a whole array everywhere.
    """

    key: str
    execution: str
    needed_bytes: float
    collectives: dict[str, float]
    compiler_says: str
    state_bytes: int
    seconds: float
    host_memory_bytes: int
    n_rematerializations: int = 0


class Unfit(Event, frozen=True, kw_only=True, tag="unfit"):
    """A program that cannot be compiled with such settings."""

    key: str
    reason: str


class Refused(Event, frozen=True, kw_only=True, tag="refused"):
    """The whole request cannot be met."""

    reason: str


AnyEvent = Devices | Compiling | Compiled | Unfit | Refused
