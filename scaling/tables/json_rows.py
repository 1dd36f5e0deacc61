# SPDX-License-Identifier: Apache-2.0
"""Rows of JSON as columns of cells."""

import json
from pathlib import Path
from typing import Any


def json_lines(path: Path, text: str) -> tuple[list[int], dict[str, list[Any]]]:
    """Line numbers and columns of one object per line; a key that a line lacks is an empty cell, of
    objects in it {"train": {"steps": 9}} the column is train.steps.

    Raises:
      ValueError: for lines that hold something else.
    """
    records, numbers, bad = [], [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            records.append(_record(line))
            numbers.append(number)
        except (ValueError, RecursionError) as error:
            bad.append(f"line {number}: {getattr(error, 'msg', error)}")
    if bad:
        more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise ValueError(f"{path} must hold one JSON object per line: {'; '.join(bad[:5])}{more}")
    return numbers, _by_column(records)


def json_columns(path: Path, text: str) -> dict[str, list[Any]]:
    """Columns of a list of objects, one per run, or of an object of columns: lists, or values by
    row.

    Raises:
      ValueError: for anything else.
    """
    try:
        body = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {getattr(error, 'msg', error)}") from None
    if isinstance(body, list) and all(isinstance(record, dict) for record in body):
        return _by_column([_unique(_leaves(record)) for record in body])
    columns = body if isinstance(body, dict) else {}
    found = {n: list(c.values()) if isinstance(c, dict) else c for n, c in columns.items()}
    are_lists = all(isinstance(cells, list) for cells in found.values())
    if not found or not are_lists or len(set(map(len, found.values()))) > 1:
        raise ValueError(
            f"{path} must hold a list of objects, one per run, or an object of columns alike in "
            "length"
        )
    return {name: list(map(cell, cells)) for name, cells in found.items()}


def _by_column(records: list[dict[str, Any]]) -> dict[str, list[Any]]:
    header = dict.fromkeys(name for record in records for name in record)
    return {name: [cell(record.get(name)) for record in records] for name in header}


def _record(line: str) -> dict[str, Any]:
    record = json.loads(line, object_pairs_hook=_unique)
    if not isinstance(record, dict):
        raise ValueError("no object")
    return _unique(_leaves(record))


def _leaves(record: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Names and values, those of objects within named like train.steps."""
    found = []
    for name, value in record.items():
        within = _leaves(value, f"{before}{name}.") if isinstance(value, dict) else []
        found += within or [(before + name, value)]
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a key occurs twice")
    return record


def cell(value: Any) -> Any:
    """A number or text; null is an empty cell, anything else is shown as JSON writes it."""
    if value is None:
        return ""
    is_plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    return value if is_plain else json.dumps(value, default=str)
