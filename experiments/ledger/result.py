# SPDX-License-Identifier: Apache-2.0
"""The records of what came out: of a run, and of a trunk that several runs begin with.

Built in experiments/train/build_records.py; everything that reads one reads it here.
"""

from typing import Final, Literal, TypeVar

import msgspec

from experiments.files import checked_json
from experiments.files.checked_json import Damaged
from experiments.files.storage import Storage
from model.training.outcome import ALL, CurvePoint, Loss

# Raised by one when a record gains, loses or changes a field.
VERSION: Final = 3
_READS = {1: "isoflop 0.1 reads it", 2: "isoflop 0.2 reads it"}


class OtherVersion(ValueError):
    """A record of another version of isoflop."""


def other_version(what: str, version: int) -> OtherVersion:
    """With who reads it, and the ways out."""
    reads = _READS.get(version, "a later isoflop reads it")
    return OtherVersion(
        f"{what} of version {version}: {reads}. Give the study another name, or --results another "
        "folder; `isoflop fit TABLE` still fits its table.csv."
    )


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every record says of itself."""

    version: Literal[3]


class LedgerVersion(Record, frozen=True, forbid_unknown_fields=True):
    """What a ledger says of itself: its specs, jobs and checkpoints do not say it one by one."""


class Costs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one run cost of its devices; a trunk's record is of all its runs.

    Seconds and joules are shares: the n runs of a pack have 1/n each, and so have n processes on
    one GPU (or the same GPUs). While all n are at work, their shares add up to the device's own
    seconds and joules; what a process that has nothing to do leaves unused is in no record.

    Attributes:
      compile_seconds, train_seconds, stall_seconds, evaluate_seconds, checkpoint_seconds: by
        account, of the attempt that finished.
      wall_seconds: of that attempt, all accounts.
      total_wall_seconds: of all attempts; ``device_seconds``: times the devices.
      resumed_at: step at which the attempt that finished began.
      flops_per_second: of all runs of the job together in a device's second that was charged
        for the steps that were timed, "matmul_full".
      peak_flops_per_second, peak_flops_source: of all devices (experiments/machine/peak.py).
      mfu_matmul_full, mfu_matmul_causal: share of the peak; None where no peak is known.
      joules, joules_source: of the attempt that finished; None where nothing is known.
    """

    compile_seconds: float
    train_seconds: float
    stall_seconds: float
    evaluate_seconds: float
    checkpoint_seconds: float
    wall_seconds: float
    total_wall_seconds: float
    device_seconds: float
    resumed_at: int
    flops_per_second: int
    peak_flops_per_second: int
    peak_flops_source: str
    mfu_matmul_full: float | None
    mfu_matmul_causal: float | None
    joules: float | None
    joules_source: str


class Ended(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An attempt that ended without a result; see Ending of claims.py."""

    attempt: int
    how: str
    step: int


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a result came from: job, data, code, versions and machine.

    Attributes:
      job_id, pack_size: the job that trained it, and how many runs it trained together.
      trunk: the trunk that it began from; "" without one.
      attempt: the one that finished; ``attempts``: those that ended before it.
      resumed_at_steps: where each attempt began.
      init_seed, data_seed: of the run; None of a trunk.
      data_kind, data_fingerprint: see model/data/manifest.py.
      mesh, execution: as text.
      the others: see experiments/machine/provenance.py.
    """

    job_id: str
    pack_size: int
    trunk: str
    attempt: int
    attempts: tuple[Ended, ...]
    resumed_at_steps: tuple[int, ...]
    init_seed: int | None = None
    data_seed: int | None = None
    data_kind: str
    data_fingerprint: str
    mesh: str
    execution: str
    platform: str
    device: str
    n_devices: int
    n_processes: int
    n_cores: int
    host: str
    git_commit: str
    git_dirty_sha256: str
    version_isoflop: str
    python: str
    version_jax: str
    version_jaxlib: str
    version_flax: str
    version_optax: str
    version_orbax_checkpoint: str = msgspec.field(name="version_orbax-checkpoint")
    version_grain: str
    version_numpy: str
    xla_flags: str
    environment: str


class Result(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came out of a run.

    Attributes:
      status, reason, losses, oracle_loss_nats, curve, params_sha256: see TrainResult of
        model/training/outcome.py.
      weights_sha256: digest of weights.safetensors beside it; "" where no weights were kept.
      notes: what happened to checkpoints and to an earlier result.
      flags: signs that its loss may be off (flags.py).
      flops: of the run, by convention; ``flops_spent``: of its own steps, without its trunk's.
    """

    status: Literal["ok", "diverged", "stopped"]
    reason: str
    losses: dict[str, Loss]
    oracle_loss_nats: float | None
    curve: tuple[CurvePoint, ...]
    params_sha256: str
    weights_sha256: str
    notes: tuple[str, ...]
    flags: tuple[str, ...]
    flops: dict[str, float]
    flops_spent: dict[str, float]
    costs: Costs
    provenance: Provenance

    @property
    def loss(self) -> Loss | None:
        """On the whole validation set; None where the run diverged."""
        return self.losses.get(ALL)

    @property
    def loss_nats(self) -> float | None:
        return self.loss.nats if self.loss else None


class Trunk(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came out of a trunk.

    Attributes:
      step: trained.
      clusters: of the points that begin with it.
      reasons: of each run, why it diverged, or "".
      notes: what happened to checkpoints.
      flops_spent: of all its runs, by convention.
    """

    step: int
    clusters: tuple[str, ...]
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    flops_spent: dict[str, float]
    costs: Costs
    provenance: Provenance

    @property
    def is_lost(self) -> bool:
        """Whether every run diverged: nothing was saved to begin from."""
        return all(self.reasons)


R = TypeVar("R", bound=Record)


def read_record(storage: Storage, key: str, kind: type[R], *, way_out: str) -> R | None:
    """The record in a file, None where there is none.

    Raises:
      Damaged: if it is not what was written.
      OtherVersion: if another version of isoflop wrote it: one line that names what reads it.
    """
    if (data := storage.read(key)) is None:
        return None
    name = storage.name(key)
    try:
        return checked_json.decode(data, kind, name, way_out=way_out)
    except Damaged:
        _refuse_other_version(data, name)
        raise


def _refuse_other_version(data: bytes, name: str) -> None:
    try:
        fields = msgspec.json.decode(checked_json.text_of(data) or b"", type=dict[str, msgspec.Raw])
        # Before the second version no record named its own.
        version = msgspec.json.decode(fields["version"], type=int) if "version" in fields else 1
    except msgspec.MsgspecError:
        return
    if fields and version != VERSION:
        raise other_version(f"{name} is a record", version)
