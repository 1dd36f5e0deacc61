# SPDX-License-Identifier: Apache-2.0
"""CSV files as rows with line numbers; problems are gathered and reported all at once."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

Array = np.ndarray


def _open(path: Path) -> IO[str]:
    return gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="")


def read_csv(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Header and rows, each with its line number in the file."""
    with _open(path) as stream:
        reader = csv.DictReader(stream)
        rows = [(reader.line_num, {k: v or "" for k, v in row.items() if k}) for row in reader]
        header = list(reader.fieldnames or [])
    if not rows:
        raise ValueError(f"{path} holds no rows; a table needs a header and one row per run")
    return header, rows


def require_columns(path: Path, header: Sequence[str], wanted: Iterable[str]) -> None:
    """Raises ValueError naming the columns that are missing and those there are."""
    missing = [name for name in wanted if name not in header]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(header)}. "
            "Name the columns with columns={'loss_nats': ..., ...}"
        )


def number(
    line: int, column: str, row: Mapping[str, str], problems: list[str], *, allow_zero: bool = False
) -> float:
    """A finite positive number, or a problem noted and NaN returned."""
    text = row.get(column, "").strip()
    try:
        value = float(text)
    except ValueError:
        problems.append(f"line {line}: {column} is {text!r}, not a number")
        return math.nan
    if not math.isfinite(value) or value < 0 or (value == 0 and not allow_zero):
        problems.append(f"line {line}: {column} is {text}, must be positive and finite")
        return math.nan
    return value


def repeated(rows: Sequence[tuple[int, Any]], ids: Sequence[str]) -> list[str]:
    """Problems for ids that occur more than once."""
    first: dict[str, int] = {}
    problems = []
    for (line, _), run_id in zip(rows, ids, strict=True):
        if run_id in first:
            problems.append(f"line {line}: run_id {run_id} repeats line {first[run_id]}")
        first.setdefault(run_id, line)
    return problems


def raise_all(path: Path, problems: Sequence[str]) -> None:
    """Raises one ValueError for all problems of a table, if there are any."""
    if problems:
        rows = "row" if len(problems) == 1 else "rows"
        listing = "\n  ".join(problems)
        raise ValueError(f"{path} has {len(problems)} bad {rows}; mend or drop them:\n  {listing}")


def as_column(values: Sequence[str]) -> Array:
    """Numbers where every value is one or empty (then NaN), text otherwise."""
    try:
        return np.array([float(v) if v.strip() else math.nan for v in values])
    except ValueError:
        return np.array(values, str)
