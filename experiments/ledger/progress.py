# SPDX-License-Identifier: Apache-2.0
"""How far every point is, and what it has cost so far: its verdict, and its lines of metrics.

Of metrics only the last line of an attempt is decoded, and folders of jobs are looked into only
where there is no result: ten thousand runs are told in a second or two.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from experiments.files.checked_json import Damaged, intact
from experiments.ledger.asked_points import Asked
from experiments.ledger.claims import JobFolder, Limits
from experiments.ledger.ledger import Ledger
from experiments.ledger.result import Result
from experiments.ledger.verdict import Judge, State, Verdict
from experiments.plan.jobs import TRUNK


class Row(msgspec.Struct, frozen=True):
    """The part of a line of metrics that tells how far an attempt is."""

    step: int
    n_steps: int
    n_tokens: float
    resumed_at: int
    train_seconds: float
    wall_seconds: float
    peak_flops_per_second: float
    n_sharing: int = 1

    @property
    def charged_seconds(self) -> float:
        """A share of the wall's, as in Costs of result.py."""
        return self.wall_seconds / self.n_sharing

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """Who trains, for how long, and when it was last heard of, both by the file server's clock."""

    host: str
    age_seconds: float
    silence_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PointState:
    """Where a point stands.

    Attributes:
      state, reason, attempt: see Verdict.
      worker: of the attempt that is running.
      progress: the newest attempt's last line of metrics, while there is no result.
      device_seconds: of all attempts, as far as they had reported.
      flops: of the steps that were reached, in the point's convention.
      joules, joules_source: of the attempt that finished; None while there is none.
      n_torn: lines of metrics that were torn or damaged, in attempts without a result.
      flags: of its result (flags.py).
    """

    state: State
    reason: str = ""
    attempt: int = 0
    worker: Worker | None = None
    progress: Row | None = None
    device_seconds: float = 0.0
    flops: float = 0.0
    joules: float | None = None
    joules_source: str = ""
    n_torn: int = 0
    flags: tuple[str, ...] = ()


def survey(
    ledger: Ledger,
    asked: Iterable[Asked],
    *,
    n_devices: int,
    limits: Limits | None = None,
    known: Mapping[str, PointState] | None = None,
) -> dict[str, PointState]:
    """The state of each point by its id, in the order asked.

    Args:
      n_devices: of the mesh, for the device seconds of attempts without a result.
      limits: see Judge.
      known: from an earlier look: what has a result there is not read again.
    """
    judge = Judge(ledger, limits)
    states = {}
    for point in asked:
        before = (known or {}).get(point.id)
        has_result = before is not None and before.state in ("done", "diverged", "stopped")
        states[point.id] = before if before and has_result else _state(judge, point, n_devices)
    return states


def _state(judge: Judge, point: Asked, n_devices: int) -> PointState:
    verdict = judge.point(point.id)
    if verdict.result is not None:
        return _finished(judge.ledger, point, verdict, verdict.result)
    if not verdict.attempt:
        return PointState(state=verdict.state, reason=verdict.reason)
    ledger = judge.ledger
    last = {n: _last_row(ledger, point.id, n) for n in ledger.metrics.attempts(point.id)}
    rows = [row for row, _ in last.values() if row is not None]
    furthest = max((row.step for row in rows), default=0)
    is_running = verdict.state == "running"
    return PointState(
        state=verdict.state,
        reason=verdict.reason,
        attempt=verdict.attempt,
        worker=_worker(ledger.job(judge.job_id(point.id)), verdict.attempt) if is_running else None,
        progress=last.get(verdict.attempt, (None, 0))[0],
        device_seconds=sum(row.charged_seconds for row in rows) * n_devices,
        flops=point.flops[point.convention] * furthest / point.n_steps,
        n_torn=sum(n_torn for _, n_torn in last.values()),
    )


def _finished(ledger: Ledger, point: Asked, verdict: Verdict, result: Result) -> PointState:
    attempt, flops, n_torn = verdict.attempt, point.flops[point.convention], 0
    if verdict.state in ("diverged", "stopped"):  # It ended early.
        row, _ = _last_row(ledger, point.id, attempt)
        flops *= row.step / point.n_steps if row else 0.0
    if result.provenance.attempts:  # Of a run that was never interrupted no line is torn.
        earlier = [n for n in ledger.metrics.attempts(point.id) if n != attempt]
        n_torn = sum(_last_row(ledger, point.id, number)[1] for number in earlier)
    return PointState(
        state=verdict.state,
        reason=verdict.reason,
        attempt=attempt,
        device_seconds=result.costs.device_seconds,
        flops=flops,
        joules=result.costs.joules,
        joules_source=result.costs.joules_source,
        n_torn=n_torn,
        flags=result.flags,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrunkState:
    """A trunk that is being trained.

    Attributes:
      of: the point whose beginning its first run is.
      steps: (first, last) that it trains.
      progress: its last line of metrics; None while it compiles.
      attempt, worker: see PointState.
    """

    of: Asked
    steps: tuple[int, int]
    progress: Row | None
    attempt: int
    worker: Worker


def running_trunks(
    ledger: Ledger, asked: Iterable[Asked], limits: Limits | None = None
) -> list[TrunkState]:
    """Trunks of these points that somebody alive is training; ``limits``: see Judge."""
    points = {point.id: point for point in asked}
    judge = Judge(ledger, limits)
    found = []
    for name in ledger.job_ids():
        if not name.startswith(TRUNK) or ledger.has_trunk(name):
            continue
        job = ledger.job(name)
        record = intact(job.job)
        of = points.get(record.members[0]) if record else None
        newest = job.newest()
        if record is None or of is None or judge.job(job, newest)[0] != "running":
            continue
        found.append(
            TrunkState(
                of=of,
                steps=record.steps,
                progress=_last_row(ledger, name, newest)[0],
                attempt=newest,
                worker=_worker(job, newest),
            )
        )
    return found


def _last_row(ledger: Ledger, run_id: str, number: int) -> tuple[Row | None, int]:
    text, n_torn = ledger.metrics.read_last(run_id, number)
    try:
        return (None if text is None else msgspec.json.decode(text, type=Row)), n_torn
    except msgspec.MsgspecError:
        return None, n_torn + 1


def _worker(job: JobFolder, newest: int) -> Worker:
    try:
        owner = job.owner(newest)
        host = "" if owner is None else owner.host
    except Damaged:
        host = "unknown"
    return Worker(
        host=host,
        age_seconds=job.age_seconds(newest),
        silence_seconds=max(0.0, job.silence_seconds(newest)),
    )
