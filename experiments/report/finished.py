# SPDX-License-Identifier: Apache-2.0
"""Whether a study is finished and its answer written: then running it again does nothing.

``results/<study>/finished.json`` holds what was asked, by which code it was answered, and the
answer. It is derived: deleted, the study is fitted and reported again from its results.
"""

import hashlib
import json
from collections.abc import Callable

import msgspec

from experiments.files import checked_json
from experiments.files.checked_json import Damaged, intact
from experiments.ledger.ledger import Ledger
from experiments.machine.provenance import code_facts
from experiments.plan.point import Point, to_json
from experiments.study.study import Study

_KEY = "finished.json"
_WAY_OUT = "The study is answered again."


class Finished(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was asked, and the answer.

    Attributes:
      question: digest of the study, its grid, the rule for missing runs and the code.
      points: ids of the runs that had a result.
      files: digests of the files of the answer, by name.
      answer: as it was shown.
    """

    question: str
    points: tuple[str, ...] = ()
    files: dict[str, str] = {}
    answer: str


def remember(
    ledger: Ledger,
    study: Study,
    grid: list[Point],
    points: list[Point],
    answer: str,
    allow_missing: float,
) -> None:
    """Writes down that every point of ``points`` (grid and forecasts) has its result."""
    record = Finished(
        question=_question(study, grid, allow_missing),
        points=tuple(point.id for point in points),
        files={name: ledger.storage.sha256(name) or "" for name in _files(ledger)},
        answer=answer,
    )
    ledger.storage.replace(_KEY, checked_json.encode(record))


def recall(
    ledger: Ledger,
    study: Study,
    grid: list[Point],
    allow_missing: float,
    tell: Callable[[str], None],
) -> str | None:
    """The answer, if the same question was answered by the same code and its files are intact.

    Args:
      allow_missing: see experiments/report/fits/analysis.py.
      tell: takes a sentence about each file that is not.
    """
    try:
        record = checked_json.read(ledger.storage, _KEY, Finished, way_out=_WAY_OUT)
    except Damaged as error:
        tell(str(error))
        return None
    if record is None or record.question != _question(study, grid, allow_missing):
        return None
    lost = [f"runs/{n}/result.json" for n in record.points if not ledger.has_intact_result(n)]
    lost += _changed(ledger, record)
    for name in lost:
        tell(f"{ledger.folder / name} is damaged or gone: the study is answered again.")
    return None if lost else record.answer


def finished_points(ledger: Ledger) -> tuple[str, ...]:
    """Ids of the runs that had a result when the study was finished last."""
    return _read(ledger).points


def changed_files(ledger: Ledger) -> list[str]:
    """Names of the files of the answer that are not what they were when it was written."""
    return _changed(ledger, _read(ledger))


def _read(ledger: Ledger) -> Finished:
    """What was written; nothing where it is missing or damaged, as the doctor says."""
    record = intact(lambda: checked_json.read(ledger.storage, _KEY, Finished, way_out=_WAY_OUT))
    return Finished(question="", answer="") if record is None else record


def _changed(ledger: Ledger, record: Finished) -> list[str]:
    return [name for name, sha in record.files.items() if ledger.storage.sha256(name) != sha]


def _files(ledger: Ledger) -> list[str]:
    """What was asked, and what the answer points to, by key."""
    names = ("study.json", "plan.jsonl", "forecasts/*.json", "fits/*.json", "*.csv", "report.html")
    found = {path for name in names for path in ledger.folder.glob(name)}
    # What fits were made by may change where they do not.
    found -= {ledger.folder / "fits" / "made.json"}
    return [path.relative_to(ledger.folder).as_posix() for path in sorted(found)]


def _question(study: Study, grid: list[Point], allow_missing: float) -> str:
    about = [to_json(study), [point.id for point in grid], allow_missing, code_facts()]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()
