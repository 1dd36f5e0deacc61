# SPDX-License-Identifier: Apache-2.0
"""Whether a study is finished and its answer written: then running it again does nothing.

``results/<study>/finished.json`` holds what was asked, by which code it was answered, and the
answer. It is derived: deleted, the study is fitted and reported again from its results.
"""

import hashlib
import json
from typing import Any

from experiments.ledger import Ledger
from experiments.point import Point, to_json
from experiments.provenance import code_facts
from experiments.sealed import seal_record, unseal
from experiments.study import Study

_KEY = "finished.json"


def remember(
    ledger: Ledger, study: Study, grid: list[Point], points: list[Point], answer: str
) -> None:
    """Writes down that every point of ``points`` (grid and forecasts) has its result."""
    record = {
        "question": _question(study, grid),
        "points": [point.id for point in points],
        "answer": answer,
    }
    ledger.storage.replace(_KEY, seal_record(record))


def recall(ledger: Ledger, study: Study, grid: list[Point]) -> str | None:
    """The answer, if the same question was answered by the same code and nothing is missing."""
    if (record := _record(ledger)) is None:
        return None
    is_whole = ledger.report.exists() and all(map(ledger.has_result, record["points"]))
    return record["answer"] if is_whole and record["question"] == _question(study, grid) else None


def finished_points(ledger: Ledger) -> list[str]:
    """Ids of the runs that had a result when the study was finished last."""
    record = _record(ledger)
    return [] if record is None else record["points"]


def _record(ledger: Ledger) -> dict[str, Any] | None:
    text = unseal(ledger.storage.read(_KEY) or b"")
    return None if text is None else json.loads(text)


def _question(study: Study, grid: list[Point]) -> str:
    about = [to_json(study), [point.id for point in grid], code_facts()]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()
