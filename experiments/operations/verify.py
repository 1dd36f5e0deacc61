# SPDX-License-Identifier: Apache-2.0
"""Every kind of file in a study's folder, how it is verified, and what to do where it is damaged.

Nothing here writes. Fits and the report are derived and may have been made anew: that they are not
those of the answer is only noted. Figures and logs are not verified.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from experiments.cost import planned_cost
from experiments.cost.planned_cost import Planned
from experiments.files import checked_json
from experiments.files.checked_json import Damaged
from experiments.ledger.claims import Ending, Limits
from experiments.ledger.forecasts import Forecast
from experiments.ledger.ledger import Ledger
from experiments.ledger.owner import Owner
from experiments.ledger.result import LedgerVersion, OtherVersion, Result, read_record
from experiments.ledger.tables import tables
from experiments.plan.jobs import Job, read
from experiments.plan.point import Point, checked
from experiments.report import finished
from experiments.report.finished import Finished
from model.training.checkpoints import checkpoint_files
from scaling.tables.units import power

T = TypeVar("T")
_ID, _NUMBER = "[a-z0-9-]{1,64}", r"\d{6}"
_MISSING = "`isoflop run` writes it again while the study asks for it."
_RUN_AGAIN = f"Delete it: {_MISSING}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that a person should know of.

    Attributes:
      key: the file, relative to the study's folder.
      what: is the matter with it.
      way_out: what to do, or why nothing; "" where ``what`` says it.
      is_damage: else it is what a killed process may rightly leave, or not ours.
    """

    key: str
    what: str
    way_out: str
    is_damage: bool = True


def check_file(ledger: Ledger, key: str) -> list[Finding]:
    """What is the matter with a file; raises OtherVersion."""
    for pattern, check, way_out in _KINDS:
        if re.fullmatch(pattern, key):
            try:
                what = check(ledger, key)
            except OtherVersion:
                raise
            except ValueError as error:
                what = str(error).removeprefix(f"{ledger.storage.name(key)} ").rstrip(".")
            except OSError as error:
                what = f"cannot be read: {error.strerror}"
            if what == _TORN:
                way_out = "Its process was killed while it wrote: the line is passed over."
                return [Finding(key=key, what=what, way_out=way_out, is_damage=False)]
            return [Finding(key=key, what=what, way_out=way_out)] if what else []
    if re.fullmatch(_SET_ASIDE, key):
        way_out = "Delete it when nobody wants to look at it."
        what = "was damaged and is kept"
        return [Finding(key=key, what=what, way_out=way_out, is_damage=False)]
    if re.fullmatch(_NOT_VERIFIED, key):
        return []
    return [Finding(key=key, what="is no file of ours", way_out="", is_damage=False)]


def _read(ledger: Ledger, key: str, kind: type[T]) -> T:
    """The record of a file; raises Damaged."""
    data = ledger.storage.read(key) or b""
    return checked_json.decode(data, kind, ledger.storage.name(key), way_out="")


def _holds(kind: type) -> "_Check":
    """Verifies that a file holds a record of a type."""

    def check(ledger: Ledger, key: str) -> str:
        _read(ledger, key, kind)
        return ""

    return check


def _plan(ledger: Ledger, key: str) -> str:
    try:
        ledger.read_plan()
    except Damaged:
        return "is not what was written"
    return ""


def _spec(ledger: Ledger, key: str) -> str:
    found = checked(_read(ledger, key, Point)).id
    return "" if found == key.split("/")[1] else f"is the spec of another run, {found}"


def _result(ledger: Ledger, key: str) -> str:
    run_id = key.split("/")[1]
    if (result := read_record(ledger.storage, key, Result, way_out="")) is None:
        return "is gone"
    try:
        point = ledger.read_point(run_id)
    except ValueError:
        return "has no spec that could be read beside it"
    if result.status == "ok" and result.loss_nats is None:
        return "has no loss"
    if result.flops != point.flops:
        return "has other FLOPs than its spec"
    if result.provenance.data_fingerprint != point.spec.data_fingerprint:
        return "is of other data than its spec"
    job = ledger.job(result.provenance.job_id).job()
    return "" if job and run_id in job.members else "names a job that does not train it"


def _job(ledger: Ledger, key: str) -> str:
    job = _read(ledger, key, Job)
    if job.id != key.split("/")[1]:
        return f"is another job, {job.id}"
    missing = [m for m in job.members if not ledger.storage.exists(f"runs/{m}/spec.json")]
    if missing:
        return f"has members without a spec: {', '.join(missing)}"
    read(job, ledger.read_point)
    return ""


def _trunk(ledger: Ledger, key: str) -> str:
    return "" if ledger.read_trunk(key.split("/")[1]) else "is damaged"


def _empty(ledger: Ledger, key: str) -> str:
    data = ledger.storage.read(key)
    return f"holds {len(data)} bytes and should hold none" if data else ""


_TORN = "has a torn last line"


def _metrics(ledger: Ledger, key: str) -> str:
    """A last line that was cut is how a kill may leave a file; anything else is damage."""
    _, run_id, _, name = key.split("/")
    last = (ledger.storage.read(key) or b"").rpartition(b"\n")[2]
    is_torn = last != b"" and b"}" not in last
    _, n_damaged = ledger.metrics.read_last(run_id, int(name[:6]))
    if n_damaged > is_torn:
        return f"has {n_damaged - is_torn} damaged lines"
    return _TORN if is_torn else ""


def _forecast(ledger: Ledger, key: str) -> str:
    forecast = read_record(ledger.storage, key, Forecast, way_out="")
    if forecast is None:
        return "is gone"
    checked(forecast.point)
    is_its_own = key.startswith(f"forecasts/{forecast.budget:.6e}-")
    return "" if is_its_own else f"is the forecast at {power(forecast.budget)} FLOPs"


def check_jobs(ledger: Ledger) -> Iterator[Finding]:
    """Records that are missing, and checkpoints."""
    for job_id in ledger.job_ids():
        job = ledger.job(job_id)
        if not ledger.storage.exists(f"{job.key}/job.json"):
            yield Finding(key=f"{job.key}/job.json", what="is missing", way_out=_MISSING)
        for number in range(1, job.newest() + 1):
            if not ledger.storage.exists(key := f"{job.key}/claims/{number:06d}.json"):
                yield Finding(key=key, what="is missing", way_out=_HARMLESS)
        yield from _checkpoints(ledger, job_id)


def _checkpoints(ledger: Ledger, job_id: str) -> Iterator[Finding]:
    folder = ledger.checkpoints(job_id)
    if not folder.is_dir():
        return
    for saved in checkpoint_files.finished(folder):
        is_damaged = not checkpoint_files.is_intact(folder, saved)
        # A run that goes on removes old ones meanwhile.
        if is_damaged and saved in checkpoint_files.finished(folder):
            way_out = "Leave it: the run goes on from an older one, or begins again."
            key = f"jobs/{job_id}/checkpoints/{saved}"
            yield Finding(key=key, what="is not what was saved", way_out=way_out)


def check_plan(ledger: Ledger) -> Iterator[Finding]:
    """What was asked for or was there and is gone; tables that say otherwise than results."""
    for name in ("study.json", "manifest.json", "plan.jsonl"):
        if not ledger.storage.exists(name):
            yield Finding(key=name, what="is missing", way_out=_MISSING)
    for run_id in finished.finished_points(ledger):
        if not ledger.has_result(run_id):
            way_out = "`isoflop run` trains the run again."
            yield Finding(key=f"runs/{run_id}/result.json", what="is gone", way_out=way_out)
    for name in finished.changed_files(ledger):
        if not name.endswith(".csv"):  # Tables are compared with the results.
            what, way_out = "is not what `isoflop run` wrote", "`isoflop run` writes it again."
            yield Finding(key=name, what=what, way_out=way_out, is_damage=False)
    try:
        points = ledger.read_plan()
        fresh = tables(ledger, points)
    except Damaged:
        return  # Named already; there is nothing to compare with.
    for point in points:
        if not ledger.storage.exists(key := f"runs/{point.id}/spec.json"):
            yield Finding(key=key, what="is missing", way_out=_MISSING)
    for path, text in fresh.items():
        key = path.relative_to(ledger.folder).as_posix()
        if (data := ledger.storage.read(key)) is not None:
            yield from _table(key, data, text.encode())


def _table(key: str, data: bytes, fresh: bytes) -> Iterator[Finding]:
    """A table may lack runs that ended after it, and hold as failed what was tried again."""
    if data == fresh:
        return
    rows, expected = data.splitlines(keepends=True), set(fresh.splitlines(keepends=True))
    strange = [row for row in rows if row not in expected]
    tried_again = re.compile(rb"[a-z0-9-]+,[a-z]+,failed,")
    if rows and all(tried_again.match(row) for row in strange):
        what, way_out = "is older than the results", "`isoflop fit STUDY` brings it up to date."
        yield Finding(key=key, what=what, way_out=way_out, is_damage=False)
    else:
        way_out = "Delete it: `isoflop fit STUDY` writes it again."
        yield Finding(key=key, what="does not follow from the results", way_out=way_out)


_HARMLESS = "Leave it: the numbers of attempts are also in the other folders of the job."
_Check = Callable[[Ledger, str], str]
_KINDS: tuple[tuple[str, _Check, str], ...] = (
    ("study.json", _holds(dict), _RUN_AGAIN),
    # Not to be deleted: without it the folder is taken for one of the first version.
    ("ledger.json", _holds(LedgerVersion), _MISSING),
    ("limits.json", _holds(Limits), _RUN_AGAIN),
    ("plan.jsonl", _plan, _RUN_AGAIN),
    ("finished.json", _holds(Finished), _RUN_AGAIN),
    (r"until\.json", _holds(dict), "Delete it: finished runs are kept and used."),
    (r"next\.json", _holds(dict), "Delete it: `isoflop next STUDY` writes it again."),
    (planned_cost.KEY.replace(".", r"\."), _holds(Planned), _RUN_AGAIN),
    (rf"runs/{_ID}/spec\.json", _spec, _RUN_AGAIN),
    (rf"runs/{_ID}/result\.json", _result, "Move it away: `isoflop run` trains the run again."),
    (
        rf"(runs|jobs)/{_ID}/metrics/{_NUMBER}\.jsonl",
        _metrics,
        "Leave it: these lines are passed over, and costs may be told too low.",
    ),
    (rf"jobs/{_ID}/job\.json", _job, _RUN_AGAIN),
    (
        rf"jobs/{_ID}/claims/{_NUMBER}\.json",
        _holds(Owner),
        "Leave it: whether its owner lives is told by the heartbeat.",
    ),
    (
        rf"jobs/{_ID}/attempts/{_NUMBER}\.json",
        _holds(Ending),
        "Leave it: it counts as a failure; `isoflop retry` forgives it.",
    ),
    (rf"jobs/{_ID}/trunk\.json", _trunk, "Leave it: `isoflop run` trains what is missing."),
    (rf"jobs/{_ID}/(hb|retries)/{_NUMBER}", _empty, "Leave it: only its name and age count."),
    (r"forecasts/[^/]+\.json", _forecast, "Move it away: `isoflop run` forecasts again."),
)
_SET_ASIDE = rf"(runs/{_ID}/result\.json\.damaged|jobs/{_ID}/trunk\.json\.lost)-[0-9a-f]{{8}}"
_NOT_VERIFIED = (
    r"manifest\.json|data/.*|(table|curves|contexts|costs)\.csv|"  # Verified as a whole, elsewhere.
    rf"jobs/{_ID}/checkpoints/.*|runs/{_ID}/weights\.safetensors|"
    r"report\.html|export\.(csv|parquet)|(fits|figures|logs|slurm|kubernetes)/.*|(.*/)?\.[^/]+"
)
