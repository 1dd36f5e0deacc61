# SPDX-License-Identifier: Apache-2.0
"""Where things lie under results/<study>/: folders, no server.

  study.json  manifest.json  plan.jsonl  data/         what was asked, of what (prepared.py)
  ledger.json                                          the version that wrote it; once
  limits.json                                          when a run counts as failed or dead
  cost.json                                            what it was planned to take; once per plan
  jobs/<job id>/                                       who works, who worked (claims.py)
  jobs/trunk-<hash>/{trunk.json, metrics/}             what several points begin from
  runs/<point id>/{spec.json, metrics/, result.json}   what came out; create-once
  runs/<point id>/weights.safetensors                  the network, where it is kept
  forecasts/<budget>-<key>.json                        predicted before the run; create-once
  table.csv  curves.csv  contexts.csv  costs.csv  fits/  figures/  report.html   derived; may be
                                                       deleted

A result is linked into place whole or not at all, carries its own digest, and is never replaced:
whoever comes second finds it there. Points whose spec is unchanged keep theirs when a study is
edited.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path

import msgspec

from experiments.files import checked_json
from experiments.files.checked_json import Damaged, intact, text_of, with_checksum
from experiments.files.storage import Storage
from experiments.ledger.claims import JobFolder, Limits
from experiments.ledger.metrics import Metrics
from experiments.ledger.result import (
    VERSION,
    LedgerVersion,
    OtherVersion,
    Result,
    Trunk,
    other_version,
    read_record,
)
from experiments.plan.jobs import TRUNK, Job
from experiments.plan.point import Point, check_id, checked, is_id, to_json

_VERSION = "ledger.json"
_AGAIN = "Delete it and run `isoflop run` again."


class Ledger:
    """The folder of one study."""

    def __init__(self, results: Path, study: str):
        self.results = Path(results)
        self.folder = self.results / study
        self.storage = Storage(self.folder)
        self.metrics = Metrics(self.storage)
        self.manifest = self.folder / "manifest.json"
        self.data = self.folder / "data"
        self.table = self.folder / "table.csv"
        self.curves = self.folder / "curves.csv"
        self.contexts = self.folder / "contexts.csv"
        self.costs = self.folder / "costs.csv"
        self.report = self.folder / "report.html"
        self.figures = self.folder / "figures"
        self.fits = self.folder / "fits"
        self.answer = self.fits / "answer.json"
        self.findings = self.fits / "findings.txt"
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

    def has_runs(self) -> bool:
        """Whether training was ever begun: a plan that is only shown writes none."""
        return any(map(is_id, self.storage.names("runs")))

    def has_intact_result(self, point_id: str) -> bool:
        """Whether there is one that can be read; raises OtherVersion."""
        return intact(self.read_result, point_id) is not None

    def set_aside_damaged(self, point_id: str) -> list[str]:
        """Gives a damaged result another name, so that there can be a new one; says so.

        Only for the owner of the job: nobody else may write a result meanwhile.
        """
        key = _run(point_id, "result.json")
        data = self.storage.read(key)
        if data is None or self.has_intact_result(point_id):
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
        self.storage.replace("study.json", with_checksum(study_json))
        self.storage.replace("plan.jsonl", plan_file(points))
        made = {_VERSION: checked_json.encode(LedgerVersion(version=VERSION))}
        made |= {_run(p.id, "spec.json"): with_checksum(to_json(p)) for p in points}
        made |= {f"jobs/{check_id(job.id)}/job.json": checked_json.encode(job) for job in jobs}
        return [key for key, data in made.items() if self._make(key, data)]

    def require_version(self) -> None:
        """Raises OtherVersion where another version of isoflop wrote the folder."""
        try:
            record = read_record(self.storage, _VERSION, LedgerVersion, way_out="")
        except Damaged:
            return  # The doctor names it, and the next plan writes it again.
        if record is None and any(map(self.storage.names, ("runs", "jobs"))):
            raise other_version(f"{self.folder} is a ledger", 1)

    def _make(self, key: str, data: bytes) -> bool:
        """Creates a file; True if it was there but damaged, and had to be replaced."""
        if self.storage.create(key, data) or text_of(self.storage.read(key) or b"") is not None:
            return False
        self.storage.replace(key, data)
        return True

    def write_limits(self, limits: Limits) -> None:
        """Records what a run was told, for whoever judges its jobs."""
        self.storage.replace("limits.json", checked_json.encode(limits))

    def limits(self) -> Limits:
        """What the last `isoflop run` was told; raises Damaged."""
        way_out = "Delete it: `isoflop run` writes it again."
        limits = checked_json.read(self.storage, "limits.json", Limits, way_out=way_out)
        return Limits() if limits is None else limits

    def study_json(self) -> bytes:
        """What was asked last; raises Damaged."""
        if (text := text_of(self.storage.read("study.json") or b"")) is None:
            raise Damaged(f"{self.storage.name('study.json')} is damaged")
        return text

    def is_study(self, study_json: str) -> bool:
        """Whether this is what was asked last."""
        return self.storage.read("study.json") == with_checksum(study_json)

    def read_plan(self) -> list[Point]:
        """The points asked for last; empty when none were; raises Damaged."""
        return [self._point(line, "plan.jsonl") for line in self.plan_lines()]

    def plan_lines(self) -> list[bytes]:
        """The points asked for last, each a line with its checksum; raises Damaged."""
        if (data := self.storage.read("plan.jsonl")) is None:
            return []
        lines = data.splitlines(keepends=True)
        # The last line notices that others are missing.
        *points, end = lines or [b""]
        said = msgspec.json.decode(checked_json.text_of(end) or b"null")
        if said != _plan_end(b"".join(points)):
            raise Damaged(f"{self.storage.name('plan.jsonl')} is damaged. {_AGAIN}")
        return points

    def read_point(self, point_id: str) -> Point:
        """A point of any plan so far; raises Damaged, and ValueError where there is none."""
        key = _run(point_id, "spec.json")
        if (data := self.storage.read(key)) is None:
            raise ValueError(f"no run {point_id} in {self.folder}. `isoflop run` makes them.")
        return self._point(data, key)

    def _point(self, data: bytes, key: str) -> Point:
        name = self.storage.name(key)
        point = checked_json.decode(data, Point, name, way_out=_AGAIN)
        try:
            return checked(point)
        except ValueError as error:
            raise Damaged(f"{name}: {error} {_AGAIN}") from None

    def other_runs(self, asked: Container[str]) -> list[str]:
        """Ids of the runs in the folder that are not among those asked for."""
        return [name for name in self.storage.names("runs") if name not in asked]

    def write_result(self, point_id: str, result: Result) -> bool:
        """Creates result.json with its own checksum; False when there was one already."""
        key = _run(point_id, "result.json")
        return self.storage.create(key, checked_json.encode(result))

    def read_result(self, point_id: str) -> Result | None:
        """The record of a finished point, or None.

        Raises:
          Damaged: if the file does not match its checksum, or is no such record.
          OtherVersion: if another version of isoflop wrote it.
        """
        way_out = "Move it away and run the study again."
        return read_record(self.storage, _run(point_id, "result.json"), Result, way_out=way_out)

    def writing_weights(
        self, point_id: str
    ) -> contextlib.AbstractContextManager[Callable[[bytes], None]]:
        """What takes the weights of a run part by part; they are there when the block has ended.

        Before its result: that never names weights which do not exist.
        """
        return self.storage.writing(weights_key(point_id))

    def write_trunk(self, trunk_id: str, trunk: Trunk) -> bool:
        """Creates trunk.json with its own checksum; False when there was one already."""
        return self.storage.create(_trunk(trunk_id), checked_json.encode(trunk))

    def read_trunk(self, trunk_id: str) -> Trunk | None:
        """The record of a trunk; None where it is missing or damaged: it is trained again.

        Raises:
          OtherVersion: if another version of isoflop wrote it.
        """
        key = _trunk(trunk_id)
        return intact(lambda: read_record(self.storage, key, Trunk, way_out=""))

    def has_trunk(self, trunk_id: str) -> bool:
        """Whether points can begin from it, as far as names of files say."""
        record = self.read_trunk(trunk_id)
        if record is None:
            return False
        return record.is_lost or self.job(trunk_id).newest_step() == record.step

    def set_aside_trunk(self, trunk_id: str) -> bool:
        """Gives a record that is worth nothing another name; whether there was one."""
        data = self.storage.read(_trunk(trunk_id))
        if data is not None:
            digest = hashlib.sha256(data).hexdigest()[:8]
            self.storage.move(_trunk(trunk_id), f"{_trunk(trunk_id)}.lost-{digest}")
        return data is not None

    def trunks(self, clusters: Container[str]) -> dict[str, Trunk]:
        """The trunks that points of these clusters begin with, by id.

        Those of another version are passed over: no point with a result of ours began there.
        """
        found = {}
        for name in self.job_ids():
            if not name.startswith(TRUNK):
                continue
            with contextlib.suppress(OtherVersion):
                record = self.read_trunk(name)
                if record is not None and any(one in clusters for one in record.clusters):
                    found[name] = record
        return found


def plan_file(points: Sequence[Point]) -> bytes:
    """The content of plan.jsonl: each line has a checksum of its own, and the last one of all."""
    lines = b"".join(with_checksum(to_json(point)) for point in points)
    return lines + checked_json.encode(_plan_end(lines))


def _plan_end(lines: bytes) -> dict[str, str]:
    return {"lines_sha256": hashlib.sha256(lines).hexdigest()}


def missing_points(ledger: Ledger, points: Sequence[Point]) -> list[Point]:
    """Those without a result, and those whose result is damaged."""
    return [point for point in points if not ledger.has_intact_result(point.id)]


def weights_key(point_id: str) -> str:
    """The file of a run's final weights."""
    return _run(point_id, "weights.safetensors")


def _run(point_id: str, name: str) -> str:
    return f"runs/{check_id(point_id)}/{name}"


def _trunk(trunk_id: str) -> str:
    return f"jobs/{check_id(trunk_id)}/trunk.json"
