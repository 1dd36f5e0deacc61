# SPDX-License-Identifier: Apache-2.0
"""Ledger -> what has become of every point that is asked for. No JAX.

Of plans and results only the fields below are decoded, and folders of jobs are looked into only
where there is no result: ten thousand runs are told in a second or two.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from experiments.files.checked_json import Damaged, unseal
from experiments.ledger.claims import (
    MAX_ATTEMPTS,
    JobFolder,
    Owner,
    is_alive,
    is_dead,
    this_process,
)
from experiments.ledger.ledger import Ledger
from experiments.plan.jobs import TRUNK

State = Literal["done", "running", "preempted", "diverged", "failed", "waiting", "damaged"]
# Without a person nothing more will happen to these.
FINAL = ("done", "diverged", "failed", "damaged")
# Ends that say nothing against the run itself.
_TAKEN = ("preempted", "killed")
_TRACES = {"claims", "hb", "attempts", "retries"}


class _Model(msgspec.Struct):
    d_model: int


class _Schedule(msgspec.Struct):
    n_steps: int


class _Train(msgspec.Struct):
    schedule: _Schedule


class _Spec(msgspec.Struct):
    model: _Model
    train: _Train


class Asked(msgspec.Struct, frozen=True):
    """The part of a point (point.py) that tells which one it is."""

    id: str
    role: str
    budget: float
    convention: str
    seed: int
    axes: dict[str, float]
    n_tokens: int
    flops: dict[str, float]
    cluster_id: str
    spec: _Spec

    @property
    def d_model(self) -> int:
        return self.spec.model.d_model

    @property
    def n_steps(self) -> int:
        return self.spec.train.schedule.n_steps


class Row(msgspec.Struct, frozen=True):
    """The part of a line of metrics that tells how far an attempt is."""

    step: int
    n_steps: int
    n_tokens: float
    resumed_at: int
    train_seconds: float
    wall_seconds: float
    peak_flops_per_second: float = 0.0  # Absent from metrics of an earlier version.

    @property
    def steps_per_second(self) -> float | None:
        """Of this attempt; None before any time was measured."""
        n_steps = self.step - self.resumed_at
        return n_steps / self.train_seconds if n_steps and self.train_seconds > 0 else None

    @property
    def tokens_per_second(self) -> float | None:
        speed = self.steps_per_second
        return None if speed is None else speed * self.n_tokens / self.step

    @property
    def seconds_left(self) -> float | None:
        speed = self.steps_per_second
        return None if speed is None else (self.n_steps - self.step) / speed


class _Costs(msgspec.Struct):
    device_seconds: float = 0.0
    joules: float | None = None
    joules_source: str = ""


class _Provenance(msgspec.Struct):
    attempt: int = 1
    attempts: list[msgspec.Raw] = []


class _Result(msgspec.Struct):
    status: str
    reason: str
    costs: _Costs
    provenance: _Provenance


@dataclass(frozen=True, kw_only=True, slots=True)
class PointState:
    """What has become of a point.

    Attributes:
      state: "done" and "diverged" have a result, "damaged" has one that cannot be read; "running"
        has an attempt that lives; "preempted" had one that was killed or asked to go; "failed" is
        left alone until it is forgiven; "waiting" is everything else.
      reason: in a sentence, of whatever ended last; "" where there is nothing to tell.
      attempt: number of the newest; 0 without any.
      host: of the attempt that is running.
      progress: the newest attempt's last line of metrics, while there is no result.
      device_seconds: of all attempts, as far as they had reported.
      flops: of the steps that were reached, in the point's convention.
      joules, joules_source: of the attempt that finished; None while there is none.
      n_torn: lines of metrics that were torn or damaged, in attempts without a result.
    """

    state: State
    reason: str = ""
    attempt: int = 0
    host: str = ""
    progress: Row | None = None
    device_seconds: float = 0.0
    flops: float = 0.0
    joules: float | None = None
    joules_source: str = ""
    n_torn: int = 0


def read_asked(ledger: Ledger) -> list[Asked]:
    """The points of the plan, without a check of their ids (that is the doctor's).

    Raises:
      Damaged: if a line is not what was written.
    """
    return [_asked(line, ledger) for line in ledger.plan_lines()]


def _asked(line: bytes, ledger: Ledger) -> Asked:
    try:
        return msgspec.json.decode(unseal(line) or b"", type=Asked)
    except msgspec.MsgspecError:
        path = ledger.folder / "plan.jsonl"
        raise Damaged(f"{path} is damaged. Delete it and run `isoflop run` again.") from None


def survey(
    ledger: Ledger,
    asked: Iterable[Asked],
    *,
    n_devices: int,
    lease_seconds: float,
    max_attempts: int = MAX_ATTEMPTS,
    known: Mapping[str, PointState] | None = None,
) -> dict[str, PointState]:
    """The state of each point by its id, in the order asked.

    Args:
      n_devices: of the mesh, for the device seconds of attempts without a result.
      lease_seconds: silence after which an attempt elsewhere is taken for dead.
      max_attempts: failures without progress after which a job is left alone.
      known: from an earlier look: what has a result there is not read again.
    """
    look = _Look(ledger, n_devices, lease_seconds, max_attempts)
    states = {}
    for point in asked:
        before = (known or {}).get(point.id)
        has_result = before is not None and before.state in ("done", "diverged")
        states[point.id] = before if before and has_result else look.state(point)
    return states


@dataclass(frozen=True, kw_only=True, slots=True)
class TrunkState:
    """A trunk that is being trained.

    Attributes:
      of: the point whose beginning its first run is.
      steps: (first, last) that it trains.
      progress: its last line of metrics; None while it compiles.
      attempt, host: see PointState.
    """

    of: Asked
    steps: tuple[int, int]
    progress: Row | None
    attempt: int
    host: str


def running_trunks(
    ledger: Ledger, asked: Iterable[Asked], *, n_devices: int, lease_seconds: float
) -> list[TrunkState]:
    """Trunks of these points that somebody alive is training."""
    points = {point.id: point for point in asked}
    look = _Look(ledger, n_devices, lease_seconds, MAX_ATTEMPTS)
    found = []
    for name in ledger.job_ids():
        if not name.startswith(TRUNK) or ledger.has_trunk(name):
            continue
        job = ledger.job(name)
        try:
            record = job.job()
        except (Damaged, ValueError):
            continue  # The doctor names it.
        of = points.get(record.members[0]) if record else None
        newest = job.newest()
        if record is None or of is None or look.judge(job, newest)[0] != "running":
            continue
        found.append(
            TrunkState(
                of=of,
                steps=record.steps,
                progress=look.last_row(name, newest)[0],
                attempt=newest,
                host=_host(job, newest),
            )
        )
    return found


def is_held(job: JobFolder, number: int, me: Owner, *, lease_seconds: float) -> bool:
    """Whether an attempt that has not ended may still be at work.

    The kernel's word counts first; where it has none, the heartbeat's.
    """
    try:
        owner = job.owner(number)
    except Damaged:
        owner = None
    if owner is not None and is_dead(owner, me):
        return False
    if owner is not None and is_alive(owner, me):
        return True
    return job.silence_seconds(number) <= lease_seconds


class _Look:
    """One look at a ledger: what every point's state is judged by."""

    def __init__(self, ledger: Ledger, n_devices: int, lease_seconds: float, max_attempts: int):
        self.ledger, self.n_devices = ledger, n_devices
        self.lease_seconds, self.max_attempts = lease_seconds, max_attempts
        self.me = this_process()
        self.job_of = jobs_by_point(ledger)

    def state(self, point: Asked) -> PointState:
        data = self.ledger.storage.read(f"runs/{point.id}/result.json")
        if data is None:
            return self._without_result(point)
        try:
            result = msgspec.json.decode(unseal(data) or b"", type=_Result)
        except msgspec.MsgspecError:
            return PointState(state="damaged", reason=f"runs/{point.id}/result.json is damaged")
        return self._with_result(point, result)

    def _with_result(self, point: Asked, result: _Result) -> PointState:
        attempt, flops, n_torn = result.provenance.attempt, point.flops[point.convention], 0
        if result.status != "ok":  # It ended early.
            row, _ = self.last_row(point.id, attempt)
            flops *= row.step / point.n_steps if row else 0.0
        if result.provenance.attempts:  # Of a run that was never interrupted no line is torn.
            earlier = [n for n in self.ledger.attempts(point.id) if n != attempt]
            n_torn = sum(self.last_row(point.id, number)[1] for number in earlier)
        return PointState(
            state="done" if result.status == "ok" else "diverged",
            reason=result.reason,
            attempt=attempt,
            device_seconds=result.costs.device_seconds,
            flops=flops,
            joules=result.costs.joules,
            joules_source=result.costs.joules_source,
            n_torn=n_torn,
        )

    def _without_result(self, point: Asked) -> PointState:
        job = self.ledger.job(self.job_of.get(point.id, point.id))
        if _TRACES.isdisjoint(self.ledger.storage.names(job.key)):
            return PointState(state="waiting")
        newest = job.newest()
        state, reason = self.judge(job, newest)
        last = {
            number: self.last_row(point.id, number) for number in self.ledger.attempts(point.id)
        }
        rows = [row for row, _ in last.values() if row is not None]
        furthest = max((row.step for row in rows), default=0)
        return PointState(
            state=state,
            reason=reason,
            attempt=newest,
            host=_host(job, newest) if state == "running" else "",
            progress=last.get(newest, (None, 0))[0],
            device_seconds=sum(row.wall_seconds for row in rows) * self.n_devices,
            flops=point.flops[point.convention] * furthest / point.n_steps,
            n_torn=sum(n_torn for _, n_torn in last.values()),
        )

    def judge(self, job: JobFolder, newest: int) -> tuple[State, str]:
        endings = job.endings()
        ending = endings.get(newest)
        is_claimed = job.storage.exists(f"{job.key}/claims/{newest:06d}.json")
        is_open = ending is None and is_claimed
        if is_open and is_held(job, newest, self.me, lease_seconds=self.lease_seconds):
            return "running", ""
        # Most jobs have ended too seldom to have failed so often.
        failures = job.failures() if len(endings) >= self.max_attempts else []
        if len(failures) >= self.max_attempts:
            return "failed", failures[-1].reason
        if is_open:
            return "preempted", "ended without a word"
        if ending is None:
            return "waiting", ""
        return ("preempted" if ending.how in _TAKEN else "waiting"), ending.reason

    def last_row(self, run_id: str, number: int) -> tuple[Row | None, int]:
        text, n_torn = self.ledger.read_last_metrics(run_id, number)
        try:
            return (None if text is None else msgspec.json.decode(text, type=Row)), n_torn
        except msgspec.MsgspecError:
            return None, n_torn + 1


def _host(job: JobFolder, newest: int) -> str:
    try:
        owner = job.owner(newest)
    except Damaged:
        return "unknown"
    return "" if owner is None else owner.host


def jobs_by_point(ledger: Ledger) -> dict[str, str]:
    """Point -> job, for the points whose job does not have the same id."""
    runs = set(ledger.storage.names("runs"))
    found: dict[str, str] = {}
    for name in ledger.job_ids():
        if name in runs:
            continue
        try:
            job = ledger.job(name).job()
        except (Damaged, ValueError):
            continue  # The doctor names it.
        found |= dict.fromkeys(job.results if job else (), name)
    return found


def asked_points(ledger: Ledger, study_name: str) -> list[Asked]:
    """The points of the plan; raises ValueError if there is none."""
    asked = read_asked(ledger)
    if not asked:
        raise ValueError(f"{ledger.folder} has no plan. `isoflop run {study_name}` makes one.")
    return asked
