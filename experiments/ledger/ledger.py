# SPDX-License-Identifier: Apache-2.0
"""Where things lie under results/<study>/: folders, no server.

  study.json  manifest.json  plan.jsonl  data/         what was asked, of what
  cost.json                                            what it was planned to take; once per plan
  jobs/<job id>/                                       who works, who worked (claims.py)
  jobs/trunk-<hash>/{trunk.json, metrics/}             what several points begin from
  runs/<point id>/{spec.json, metrics/, result.json}   what came out; create-once
  forecasts/<budget>-<key>.json                        predicted before the run; create-once
  table.csv  curves.csv  costs.csv  fits/  figures/  report.html   derived; may be deleted

A result is linked into place whole or not at all, carries its own digest, and is never replaced:
whoever comes second finds it there. Points whose spec is unchanged keep theirs when a study is
edited.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import shutil
import zlib
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import msgspec

from experiments.files import strict_json
from experiments.files.checked_json import Damaged, seal, seal_record, unseal
from experiments.files.storage import PosixStorage, Storage
from experiments.ledger.claims import JobFolder
from experiments.plan.jobs import TRUNK, Job
from experiments.plan.point import Point, check_id, is_id, point_from_json, to_json

_CRC = ', "crc32": '
_FORECAST_WAY_OUT = "Delete it and run the study again."


class Result(TypedDict):
    """What a result must hold; it may hold more."""

    status: Literal["ok", "diverged"]
    reason: str
    loss_nats: float | None
    bits_per_byte: float | None
    oracle_loss_nats: float | None
    curve: list[dict[str, float]]
    params_sha256: str
    notes: list[str]
    costs: dict[str, Any]
    provenance: dict[str, Any]


class Trunk(TypedDict):
    """What the record of a trunk must hold; it may hold more.

    ``step``: trained; ``clusters``: of the points that begin with it; ``reasons``: of each run, why
    it diverged, or empty; ``flops_spent``: of all its runs, by convention.
    """

    step: int
    clusters: list[str]
    reasons: list[str]
    flops_spent: dict[str, float]
    costs: dict[str, Any]
    provenance: dict[str, Any]


def is_lost(trunk: dict[str, Any]) -> bool:
    """Whether every run of a trunk diverged: nothing was saved to begin from."""
    return all(trunk["reasons"])


class Predicted(TypedDict):
    """A forecast loss with its interval; None where an end is unknown."""

    value: float
    lower: float | None
    upper: float | None


class Forecast(TypedDict):
    """What a forecast must hold; it may hold more."""

    budget: float
    level: float
    forecasts: dict[str, Predicted]
    point: Point


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What the attempts before this one cost.

    Attributes:
      wall_seconds: as far as they had reported.
      resumed_at: the step at which each began.
    """

    wall_seconds: float
    resumed_at: tuple[int, ...]


class Ledger:
    """The folder of one study."""

    def __init__(self, results: Path, study: str, storage: Storage | None = None):
        self.results = Path(results)
        self.folder = self.results / study
        self.storage = PosixStorage(self.folder) if storage is None else storage
        self.manifest = self.folder / "manifest.json"
        self.data = self.folder / "data"
        self.table = self.folder / "table.csv"
        self.curves = self.folder / "curves.csv"
        self.costs = self.folder / "costs.csv"
        self.report = self.folder / "report.html"
        self.figures = self.folder / "figures"
        self.fits = self.folder / "fits"
        self.logs = self.folder / "logs"

    def job(self, job_id: str) -> JobFolder:
        return JobFolder(self.storage, check_id(job_id))

    def job_ids(self) -> list[str]:
        """Of every job there is."""
        return [name for name in self.storage.names("jobs") if is_id(name)]

    def checkpoints(self, job_id: str) -> Path:
        return self.folder / "jobs" / check_id(job_id) / "checkpoints"

    def delete_checkpoints(self, job_id: str) -> None:
        """Once every point of the job has its result."""
        shutil.rmtree(self.checkpoints(job_id), ignore_errors=True)

    def has_result(self, point_id: str) -> bool:
        return self.storage.exists(_run(point_id, "result.json"))

    def has_intact_result(self, point_id: str) -> bool:
        data = self.storage.read(_run(point_id, "result.json"))
        return data is not None and unseal(data) is not None

    def set_aside_damaged(self, point_id: str) -> list[str]:
        """Gives a damaged result another name, so that there can be a new one; says so.

        Only for the owner of the job: nobody else may write a result meanwhile.
        """
        key = _run(point_id, "result.json")
        data = self.storage.read(key)
        if data is None or unseal(data) is not None:
            return []
        kept = f"{key}.damaged-{hashlib.sha256(data).hexdigest()[:8]}"
        self.storage.move(key, kept)
        return [f"{key} was damaged; it is kept as {kept}, and this is a new result."]

    def write_plan(
        self, study_json: str, points: list[Point], jobs: Iterable[Job] = ()
    ) -> list[str]:
        """Records what is asked now, and creates the spec and the job of every new point.

        Returns:
          names of the files that were damaged and are written again: they follow from the plan.
        """
        self.storage.replace("study.json", seal(study_json))
        self.storage.replace("plan.jsonl", sealed_plan(points))
        made = {_run(point.id, "spec.json"): seal(to_json(point)) for point in points}
        made |= {f"jobs/{check_id(job.id)}/job.json": job.sealed() for job in jobs}
        return [key for key, data in made.items() if self._make(key, data)]

    def _make(self, key: str, data: bytes) -> bool:
        """Creates a file; True if it was there but damaged, and had to be replaced."""
        if self.storage.create(key, data) or unseal(self.storage.read(key) or b"") is not None:
            return False
        self.storage.replace(key, data)
        return True

    def is_study(self, study_json: str) -> bool:
        """Whether this is what was asked last."""
        return self.storage.read("study.json") == seal(study_json)

    def read_plan(self) -> list[Point]:
        """The points asked for last; empty when none were; raises Damaged."""
        return [self._point(line, "plan.jsonl") for line in self.plan_lines()]

    def plan_lines(self) -> list[bytes]:
        """The sealed points asked for last, whole in number; raises Damaged."""
        if (data := self.storage.read("plan.jsonl")) is None:
            return []
        lines = data.splitlines(keepends=True)
        # Each line has a digest of its own; the last one notices that others are missing.
        if lines[-1:] != [_plan_end(b"".join(lines[:-1]))]:
            path = self.folder / "plan.jsonl"
            raise Damaged(f"{path} is damaged. Delete it and run `isoflop run` again.")
        return lines[:-1]

    def read_point(self, point_id: str) -> Point:
        """A point of any plan so far; raises Damaged, and ValueError where there is none."""
        key = _run(point_id, "spec.json")
        if (data := self.storage.read(key)) is None:
            raise ValueError(f"no run {point_id} in {self.folder}. `isoflop run` makes them.")
        return self._point(data, key)

    def _point(self, data: bytes, key: str) -> Point:
        way_out = "Delete it and run `isoflop run` again."
        if (text := unseal(data)) is None:
            raise Damaged(f"{self.folder / key} is damaged. {way_out}")
        try:
            return point_from_json(text)
        except ValueError as error:
            raise Damaged(f"{self.folder / key}: {error} {way_out}") from None

    def other_runs(self, asked: Container[str]) -> list[str]:
        """Ids of the runs in the folder that are not among those asked for."""
        return [name for name in self.storage.names("runs") if name not in asked]

    def write_result(self, point_id: str, record: dict[str, Any]) -> bool:
        """Creates result.json with its own digest; False when there was one already."""
        return self.storage.create(_run(point_id, "result.json"), seal_record(record))

    def read_result(self, point_id: str) -> dict[str, Any] | None:
        """The record of a finished point, or None.

        Raises:
          Damaged: if the file does not match its digest, or is no such record.
        """
        key, way_out = _run(point_id, "result.json"), "Move it away and run the study again."
        return self._record(key, Result, way_out)

    def write_trunk(self, trunk_id: str, record: dict[str, Any]) -> bool:
        """Creates trunk.json with its own digest; False when there was one already."""
        return self.storage.create(_trunk(trunk_id), seal_record(record))

    def read_trunk(self, trunk_id: str) -> dict[str, Any] | None:
        """The record of a trunk; None where it is missing or damaged: it is trained again."""
        try:
            return self._record(_trunk(trunk_id), Trunk, "")
        except Damaged:
            return None

    def has_trunk(self, trunk_id: str) -> bool:
        """Whether points can begin from it, as far as names of files say."""
        record = self.read_trunk(trunk_id)
        if record is None:
            return False
        return is_lost(record) or self.job(trunk_id).newest_step() == record["step"]

    def set_aside_trunk(self, trunk_id: str) -> bool:
        """Gives a record that is worth nothing another name; whether there was one."""
        data = self.storage.read(_trunk(trunk_id))
        if data is not None:
            digest = hashlib.sha256(data).hexdigest()[:8]
            self.storage.move(_trunk(trunk_id), f"{_trunk(trunk_id)}.lost-{digest}")
        return data is not None

    def trunks(self, clusters: Container[str]) -> dict[str, dict[str, Any]]:
        """The trunks that points of these clusters begin with, by id."""
        names = [name for name in self.job_ids() if name.startswith(TRUNK)]
        records = {name: self.read_trunk(name) for name in names}
        return {
            name: record
            for name, record in records.items()
            if record is not None and any(one in clusters for one in record["clusters"])
        }

    def write_metrics(self, run_id: str, attempt: int, row: dict[str, Any]) -> None:
        """Adds a line to the attempt's own file, in one write, with its checksum.

        A gradient may be infinite, for which JSON has no number: null stands for it.
        """
        finite = {k: None if v in (math.inf, -math.inf) or v != v else v for k, v in row.items()}
        text = json.dumps(finite, allow_nan=False)[:-1]
        line = f"{text}{_CRC}{zlib.crc32(text.encode())}}}\n"
        self.storage.append(_metrics(run_id, f"/{attempt:06d}.jsonl"), line.encode())

    def read_metrics(self, point_id: str, attempt: int) -> tuple[list[dict[str, Any]], int]:
        """The rows of an attempt, and how many lines were torn or damaged."""
        good, n_damaged = self._metrics_lines(point_id, attempt)
        return [strict_json.loads(line) for line in good], n_damaged

    def read_last_metrics(self, point_id: str, attempt: int) -> tuple[bytes | None, int]:
        """The last row of an attempt as JSON text, and how many lines were torn or damaged."""
        good, n_damaged = self._metrics_lines(point_id, attempt)
        return (good[-1] if good else None), n_damaged

    def _metrics_lines(self, point_id: str, attempt: int) -> tuple[list[bytes], int]:
        data = self.storage.read(_metrics(point_id, f"/{attempt:06d}.jsonl")) or b""
        texts = [_metrics_text(line) for line in data.splitlines()]
        good = [text for text in texts if text is not None]
        return good, len(texts) - len(good)

    def attempts(self, point_id: str) -> list[int]:
        """Numbers of the attempts that wrote metrics."""
        names = self.storage.names(_metrics(point_id))
        return [int(name[:6]) for name in names if name[:6].isdecimal()]

    def spent(self, point_id: str, *, before: int) -> Spent:
        """What the attempts before ``before`` cost."""
        last = []
        for attempt in self.attempts(point_id):
            rows, _ = self.read_metrics(point_id, attempt) if attempt < before else ([], 0)
            last += rows[-1:]
        return Spent(
            wall_seconds=sum(row["wall_seconds"] for row in last),
            resumed_at=tuple(row["resumed_at"] for row in last),
        )

    def write_forecast(self, budget: float, key: str, record: dict[str, Any]) -> None:
        self.storage.create(_forecast(budget, key), seal_record(record))

    def read_forecast(self, budget: float, key: str) -> dict[str, Any] | None:
        """The forecast made at a budget, or None; raises Damaged."""
        return self._record(_forecast(budget, key), Forecast, _FORECAST_WAY_OUT)

    def read_forecasts(self) -> list[dict[str, Any]]:
        """Every forecast made, by budget; raises Damaged."""
        keys = [f"forecasts/{name}" for name in self.storage.names("forecasts")]
        records = [self._record(key, Forecast, _FORECAST_WAY_OUT) for key in keys]
        return sorted((r for r in records if r is not None), key=lambda r: r["budget"])

    def _record(self, key: str, kind: Any, way_out: str) -> dict[str, Any] | None:
        """What was sealed in a file, None where there is none; raises Damaged."""
        if (data := self.storage.read(key)) is None:
            return None
        if (text := unseal(data)) is None:
            raise Damaged(f"{self.folder / key} is damaged. {way_out}")
        try:
            record = strict_json.loads(text)
            msgspec.convert(record, kind)
        except (ValueError, msgspec.ValidationError) as error:
            raise Damaged(f"{self.folder / key}: {error}. {way_out}") from None
        return record

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Waits for, and holds, what keeps two processes from preparing one study's data."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def sealed_plan(points: list[Point]) -> bytes:
    """The content of plan.jsonl."""
    lines = b"".join(seal(to_json(point)) for point in points)
    return lines + _plan_end(lines)


def _plan_end(lines: bytes) -> bytes:
    return seal_record({"lines_sha256": hashlib.sha256(lines).hexdigest()})


def _run(point_id: str, name: str) -> str:
    return f"runs/{check_id(point_id)}/{name}"


def _trunk(trunk_id: str) -> str:
    return f"jobs/{check_id(trunk_id)}/trunk.json"


def _metrics(run_id: str, name: str = "") -> str:
    """A trunk is no point: what it reports lies with its job."""
    folder = "jobs" if run_id.startswith(TRUNK) else "runs"
    return f"{folder}/{check_id(run_id)}/metrics{name}"


def _forecast(budget: float, key: str) -> str:
    return f"forecasts/{budget:.6e}-{key}.json"


def _metrics_text(line: bytes) -> bytes | None:
    """A row without its checksum, or None where the line is not what was written."""
    text, _, crc = line.rpartition(_CRC.encode())
    return text + b"}" if crc == b"%d}" % zlib.crc32(text) else None


def missing_points(ledger: Ledger, points: Sequence[Point]) -> list[Point]:
    """Those without a result, and those whose result is damaged."""
    return [point for point in points if not ledger.has_intact_result(point.id)]
