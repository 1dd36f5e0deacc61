# SPDX-License-Identifier: Apache-2.0
"""How points are computed: alone, packed on one device, or as branches of one trunk. No JAX.

A Job is claimed, a Point has a result. A job computes steps of one run or of a pack of runs:

  kind      steps               members                                 id
  solo      0 to the end        the point                               the point's
  pack      0 to the end        points trained together                 hash of the members
  trunk     begin to a branch   one point per run, whose start it is    trunk- and hash of the start
  branch    trunk to the end    as solo or pack                         as solo or pack

A trunk gives a checkpoint and no result; the next segment of a trunk, and branches, begin from it
and name it as their parent.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.plan.point import Point, spec_id
from experiments.plan.trunks import trunk_spec
from experiments.study.study import shown_axes
from model.network.execution import LOGITS_BYTES
from scaling.tables.units import power

Kind = Literal["solo", "pack", "trunk", "branch"]
TRUNK = "trunk-"  # The ids of trunks begin so.
# Parameters, gradients and two moments in float32; as much again for activations and compilation.
_BYTES_PER_PARAMETER = 32
_PROCESS_BYTES = 2**30  # Python, JAX and its compiler.
# What libtpu pins for transfers (TPU_PREMAPPED_BUFFER_SIZE: cloud.google.com/tpu/docs/
# performance-guide); a GPU's driver and libraries get as much.
_ACCELERATOR_BYTES = 2**32


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What one worker claims, frozen when made.

    Attributes:
      id, kind, members: see the module.
      parent: the trunk whose last checkpoint it begins from, or None.
      steps: (first, last) of each run.
    """

    id: str
    kind: Kind
    members: tuple[str, ...]
    parent: str | None
    steps: tuple[int, int]

    def __post_init__(self) -> None:
        if not self.members or (self.kind == "solo" and len(self.members) != 1):
            raise ValueError(f"job {self.id}: a {self.kind} of {len(self.members)} points.")
        begins, ends = self.steps
        if not 0 <= begins < ends:
            raise ValueError(f"job {self.id}: steps {begins} to {ends}.")
        may_have = self.kind in ("trunk", "branch")
        if (self.parent is not None) != (begins > 0) or (begins > 0 and not may_have):
            raise ValueError(
                f"job {self.id}: a {self.kind} from step {begins} with parent {self.parent}."
            )
        if self.kind != "trunk" and self.id != job_id(self.members):
            raise ValueError(f"job {self.id}: its id does not follow from its members.")

    @property
    def results(self) -> tuple[str, ...]:
        """The points that get a result from it."""
        return () if self.kind == "trunk" else self.members

    @property
    def reports_as(self) -> tuple[str, ...]:
        """The ids that metrics of its runs are kept under; a trunk tells of its first run."""
        return self.results or (self.id,)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedJob:
    """A job and its points, in the order of its members."""

    job: Job
    points: tuple[Point, ...]

    @property
    def name(self) -> str:
        """For people."""
        point, n = self.points[0], len(self.points)
        axes = f" {shown_axes(point.axes)}" * bool(point.axes)
        size = f"d{point.spec.model.d_model}"
        others = f" and {n - 1} more" if n > 1 else ""
        if self.job.kind == "trunk":
            return f"trunk {size} to step {self.job.steps[1]} seed {point.seeds}{axes}{others}"
        return f"{power(point.budget)} {size} seed {point.seeds}{axes}{others}"

    @property
    def program(self) -> tuple:
        """What is compiled for it."""
        return (*program(self.points[0]), len(self.points))

    @property
    def n_steps(self) -> int:
        return self.job.steps[1] - self.job.steps[0]

    @property
    def flops(self) -> dict[str, float]:
        """What it spends, by convention."""
        share = self.n_steps / self.points[0].spec.train.schedule.n_steps
        return {
            convention: share * sum(point.flops[convention] for point in self.points)
            for convention in self.points[0].flops
        }


def program(point: Point) -> tuple:
    """What is compiled for a point: those that differ in rates, seeds or length share it."""
    train = point.spec.train
    shape = (point.spec.model, train.batch_size, train.compute_dtype, train.objective)
    return (*shape, train.optimizer.compiled)


def trunk_id(points: Sequence[Point], until: int) -> str:
    """The id of the trunk of so many steps that these points begin with."""
    return f"{TRUNK}{job_id([spec_id(trunk_spec(point.spec, until)) for point in points])}"


def ending_job(points: tuple[Point, ...], parent: str | None = None, begins: int = 0) -> PlannedJob:
    """A job that ends with results."""
    kind: Kind = "solo" if len(points) == 1 else "pack"
    job = Job(
        id=job_id([point.id for point in points]),
        kind="branch" if begins else kind,
        members=tuple(point.id for point in points),
        parent=parent,
        steps=(begins, points[0].spec.train.schedule.n_steps),
    )
    return PlannedJob(job=job, points=points)


def alone(point: Point) -> PlannedJob:
    """What trains one point alone."""
    return ending_job((point,))


def job_id(members: Sequence[str]) -> str:
    """A single member's own id, else the first 16 hex digits of sha256 over all in order."""
    if len(members) == 1:
        return members[0]
    return hashlib.sha256(" ".join(members).encode()).hexdigest()[:16]


def host_memory_bytes(
    point: Point,
    mesh: tuple[int, ...],
    n_runs: int = 1,
    n_processes: int = 1,
    *,
    has_accelerators: bool = False,
) -> int:
    """Of each of the processes that share a mesh evenly, from the sizes of a job alone.

    A process has the parts of the state that lie on its devices: of a mesh (run, data, fsdp,
    tensor) all axes but "data" split it. Batches count twice the logits that exist at a time on
    its devices, of float32 [batch, seq_len, vocab].
    """
    model, train = point.spec.model, point.spec.train
    n_devices = math.prod(mesh)
    share = min(1, mesh[1] / n_processes)
    state = _BYTES_PER_PARAMETER * point.params.total * share
    logits = min(4 * train.batch_size * model.seq_len * model.vocab_size, n_devices * LOGITS_BYTES)
    process = _PROCESS_BYTES + has_accelerators * _ACCELERATOR_BYTES
    return process + math.ceil(n_runs * (state + 2 * logits / n_processes))


def read(job: Job, read_point: Callable[[str], Point]) -> PlannedJob:
    """The job with its points, and it follows from them.

    Raises:
      ValueError: if a trunk is not that of its members: a file was changed.
    """
    points = tuple(read_point(member) for member in job.members)
    if job.kind == "trunk" and job.id != trunk_id(points, job.steps[1]):
        raise ValueError(f"job {job.id} is not the trunk of its members: the file was changed.")
    return PlannedJob(job=job, points=points)
