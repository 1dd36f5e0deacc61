# SPDX-License-Identifier: Apache-2.0
"""How points are computed. A Job is claimed, a Point has a result.

A solo job's id is its point's id. A pack (points trained together) has the hash of its members. A
trunk has no points: it is the prefix that branches share, its id the hash of what they share. A
branch is a point that begins from a trunk's checkpoint and names it as its parent.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from experiments.executors.base import Resources
from experiments.point import Point
from experiments.sealed import Damaged, seal
from model.execution import LOGITS_BYTES

Kind = Literal["solo", "pack", "trunk", "branch"]
# Parameters, gradients and two moments in float32; as much again for activations and compilation.
_BYTES_PER_PARAMETER = 32
_PROCESS_BYTES = 2**30  # Python, JAX and its compiler.


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What one worker claims, frozen when made.

    Attributes:
      id: see the module.
      kind: what its members have in common.
      members: ids of the points that get a result from it; none for a trunk.
      parent: the job whose checkpoint this one begins from, or None.
      resources: what it was thought to need.
    """

    id: str
    kind: Kind
    members: tuple[str, ...]
    parent: str | None
    resources: Resources

    def __post_init__(self) -> None:
        expected = {"solo": 1, "branch": 1, "trunk": 0}.get(self.kind, len(self.members))
        if len(self.members) != expected or (self.kind == "pack" and not self.members):
            raise ValueError(f"job {self.id}: a {self.kind} of {len(self.members)} points.")
        if (self.parent is not None) != (self.kind == "branch"):
            raise ValueError(f"job {self.id}: a {self.kind} with parent {self.parent}.")
        if self.kind == "solo" and self.members != (self.id,):
            raise ValueError(f"job {self.id}: a solo job has the id of its point.")
        if self.kind == "pack" and self.id != pack_id(self.members):
            raise ValueError(f"job {self.id}: its id is not the hash of its members.")

    def sealed(self) -> bytes:
        """The content of its job.json."""
        return seal(msgspec.json.encode(self).decode())


def solo(point: Point, mesh: tuple[int, ...]) -> Job:
    """The job that trains one point alone."""
    return Job(
        id=point.id,
        kind="solo",
        members=(point.id,),
        parent=None,
        resources=resources(point, mesh),
    )


def pack_id(members: Sequence[str]) -> str:
    """First 16 hex digits of sha256 over the members in order."""
    return hashlib.sha256(" ".join(members).encode()).hexdigest()[:16]


def resources(point: Point, mesh: tuple[int, ...]) -> Resources:
    """What a run needs, from its size alone: the bytes of its state and one device per mesh cell.

    Batches count twice the logits that exist at a time, of float32 [batch, seq_len, vocab].
    """
    model, train = point.spec.model, point.spec.train
    state = _BYTES_PER_PARAMETER * point.params.total
    run, data, fsdp, tensor = mesh
    n_devices = run * data * fsdp * tensor
    logits = 4 * train.batch_size * model.seq_len * model.vocab_size
    return Resources(
        n_processes=1,
        n_cpus=n_devices,
        n_gpus=0,
        memory_bytes=_PROCESS_BYTES + state + 2 * min(logits, n_devices * LOGITS_BYTES),
        seconds=None,
    )


def job_from_json(text: bytes) -> Job:
    """The Job in a JSON text; raises Damaged if it is none."""
    try:
        return msgspec.json.decode(text, type=Job)
    except msgspec.MsgspecError as error:
        raise Damaged(f"not a job: {error}") from None
