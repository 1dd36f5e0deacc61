# SPDX-License-Identifier: Apache-2.0
"""Whether a study is finished and its answer written: then running it again does nothing.

``results/<study>/finished.json`` holds what was asked, by which code it was answered, and the
answer. It is derived: deleted, the study is fitted and reported again from its results.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.files.checked_json import seal_record, unseal
from experiments.ledger.ledger import Ledger
from experiments.machine.provenance import code_facts
from experiments.plan.point import Point, to_json
from experiments.study.study import Study

_KEY = "finished.json"


def remember(
    ledger: Ledger,
    study: Study,
    grid: list[Point],
    points: list[Point],
    answer: str,
    allow_missing: float,
) -> None:
    """Writes down that every point of ``points`` (grid and forecasts) has its result."""
    record = {
        "question": _question(study, grid, allow_missing),
        "points": [point.id for point in points],
        "files": {str(path.relative_to(ledger.folder)): _digest(path) for path in _files(ledger)},
        "answer": answer,
    }
    ledger.storage.replace(_KEY, seal_record(record))


def recall(
    ledger: Ledger,
    study: Study,
    grid: list[Point],
    allow_missing: float,
    tell: Callable[[str], None],
) -> str | None:
    """The answer, if the same question was answered by the same code and its files are intact.

    Args:
      allow_missing: see experiments/report/analysis.py.
      tell: takes a sentence about each file that is not.
    """
    if (data := ledger.storage.read(_KEY)) is None:
        return None
    if (text := unseal(data)) is None:
        tell(f"{ledger.folder / _KEY} is damaged: the study is answered again.")
        return None
    record = json.loads(text)
    if record["question"] != _question(study, grid, allow_missing):
        return None
    lost = [
        f"runs/{name}/result.json"
        for name in record["points"]
        if not ledger.has_intact_result(name)
    ]
    lost += _changed(ledger, record)
    for name in lost:
        tell(f"{ledger.folder / name} is damaged or gone: the study is answered again.")
    return None if lost else record["answer"]


def finished_points(ledger: Ledger) -> list[str]:
    """Ids of the runs that had a result when the study was finished last."""
    return _read(ledger)["points"]


def changed_files(ledger: Ledger) -> list[str]:
    """Names of the files of the answer that are not what they were when it was written."""
    return _changed(ledger, _read(ledger))


def _read(ledger: Ledger) -> dict[str, Any]:
    text = unseal(ledger.storage.read(_KEY) or b"")
    return {"points": [], "files": {}} if text is None else json.loads(text)


def _changed(ledger: Ledger, record: dict[str, Any]) -> list[str]:
    return [name for name, sha in record["files"].items() if _digest(ledger.folder / name) != sha]


def _files(ledger: Ledger) -> list[Path]:
    """What was asked, and what the answer points to."""
    names = ("study.json", "plan.jsonl", "forecasts/*.json", "fits/*.json", "*.csv", "report.html")
    return sorted(path for name in names for path in ledger.folder.glob(name))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _question(study: Study, grid: list[Point], allow_missing: float) -> str:
    about = [to_json(study), [point.id for point in grid], allow_missing, code_facts()]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()
