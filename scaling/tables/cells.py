# SPDX-License-Identifier: Apache-2.0
"""Cells of a table as numbers; what is wrong with them is gathered and reported all at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from scaling.tables.arrays import Array
from scaling.tables.file import Table, row_list

# Problems written out one by one; beyond, their row numbers are listed.
_SHOWN = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Problems:
    """What is wrong with a table: (row number, sentence)."""

    table: Table
    found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, row: int, sentence: str) -> None:
        """A problem of the row with this index (not number)."""
        self.found.append((int(self.table.row_numbers[row]), sentence))

    def raise_all(self) -> None:
        """Raises one ValueError for all problems, in the order of rows, if there are any."""
        if not self.found:
            return
        # Sorting is stable: problems of one row stay in the order of columns.
        ordered = sorted(self.found, key=lambda problem: problem[0])
        kind, numbers = self.table.row_kind, {number for number, _ in ordered}
        lines = [f"{kind} {number}: {sentence}" for number, sentence in ordered[:_SHOWN]]
        rest = [number for number, _ in ordered[_SHOWN:]]
        if rest:
            lines.append(f"and {len(rest)} more in {row_list(kind, rest)}")
        rows = "row" if len(numbers) == 1 else "rows"
        listing = "\n  ".join(lines)
        raise ValueError(
            f"{self.table.path} has {len(numbers)} bad {rows}; mend or drop them:\n  {listing}"
        )


def numbers(
    table: Table,
    column: str,
    problems: Problems,
    *,
    factor: float = 1.0,
    checked: Bool[Array, " n"] | None = None,
    allow_zero: bool = False,
) -> Float[Array, " n"]:
    """Numbers of a column times a factor, [n].

    A cell that is no positive finite number becomes NaN, and a problem.

    Args:
      factor: to the field's own unit.
      checked: mask of the rows whose problems count; all by default. The others become NaN.
      allow_zero: whether zero is a number here.
    """
    cells = table.columns[column]
    with np.errstate(over="ignore"):
        values = factor * _floats(cells)
    is_number = ~np.isnan(values)
    legal = np.isfinite(values) & ((values >= 0) if allow_zero else (values > 0))
    for row in np.flatnonzero(~legal if checked is None else ~legal & checked).tolist():
        cell = str(cells[row]).strip()
        shown = cell if len(cell) <= 40 else f"{cell[:36]}..."
        if not cell:
            problems.add(row, f"{column} is empty")
        elif is_number[row] or cell.lower().lstrip("+-") == "nan":
            problems.add(row, f"{column} is {shown}, must be positive and finite")
        else:
            problems.add(row, f"{column} is {shown!r}, not a number{_hint(cell)}")
    return np.where(legal, values, math.nan)


def _hint(cell: str) -> str:
    if "," in cell:
        return " (write it without thousands separators, with a decimal point)"
    return ""


def text(table: Table, column: str) -> list[str]:
    """Cells of a column as text without surrounding blanks."""
    return [str(cell).strip() for cell in table.columns[column]]


def as_column(cells: Sequence[Any]) -> Shaped[Array, " n"]:
    """Numbers where every cell is one or empty (then NaN), text otherwise."""
    values = _floats(cells)
    for cell in (cells[i] for i in np.flatnonzero(np.isnan(values)).tolist()):
        if str(cell).strip().lower().lstrip("+-") not in ("", "nan"):
            return np.array([str(cell) for cell in cells], str)
    return values


def _floats(cells: Sequence[Any]) -> Array:
    """Every cell as a float, NaN where it is none."""
    try:
        return np.array([float(cell) for cell in cells], float)
    except (ValueError, OverflowError):
        return np.array([_float(cell) for cell in cells], float)


def _float(cell: Any) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
    except OverflowError:
        return math.inf
