# SPDX-License-Identifier: Apache-2.0
"""Whether a study is finished and its answer written: then running it again does nothing.

``results/<study>/finished.json`` holds what was asked, by which code it was answered, and the
answer. It is derived: deleted, the study is fitted and reported again from its results.
"""

import hashlib
import json

from experiments.ledger import Ledger
from experiments.point import Point, to_json
from experiments.provenance import code_facts
from experiments.sealed import seal_record, unseal
from experiments.study import Study

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
        "answer": answer,
    }
    ledger.storage.replace(_KEY, seal_record(record))


def recall(ledger: Ledger, study: Study, grid: list[Point], allow_missing: float) -> str | None:
    """The answer, if the same question was answered by the same code and nothing is missing."""
    text = unseal(ledger.storage.read(_KEY) or b"")
    if text is None:
        return None
    record = json.loads(text)
    is_whole = ledger.report.exists() and all(map(ledger.has_result, record["points"]))
    is_same = record["question"] == _question(study, grid, allow_missing)
    return record["answer"] if is_whole and is_same else None


def _question(study: Study, grid: list[Point], allow_missing: float) -> str:
    about = [to_json(study), [point.id for point in grid], allow_missing, code_facts()]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()
