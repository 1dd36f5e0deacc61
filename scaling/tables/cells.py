# SPDX-License-Identifier: Apache-2.0
"""Cells of a table as numbers; what is wrong with them is gathered and reported all at once."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from scaling.tables.arrays import Array
from scaling.tables.csv_spelling import hint, is_mixed, spelt_numbers
from scaling.tables.file import Table, row_list

# What people write for a number that is not there, in small letters; dashes of all lengths.
MISSING = frozenset(
    (
        "",
        "-",
        "--",
        "\u2013",
        "\u2014",
        "nan",
        "na",
        "n/a",
        "#n/a",
        "null",
        "none",
        "nil",
        "missing",
    )
)
# Rows whose problems are written out, the others are counted; conditions that are suggested.
_SHOWN = 3
# What a condition can hold: see row_filter.
_SPELLABLE = re.compile(r"(?!.* or )[^'<>=!\n]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problems:
    """What is wrong with a table: (row number, sentence).

    Fields:
      option: of the command line for conditions on rows; empty where there is none.
      notes: how cells were read that float does not read, in words.
      conditions: that leave bad rows out, with the numbers of those rows.
    """

    table: Table
    found: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    option: str = "--where"
    conditions: dict[str, set[int]] = field(default_factory=dict)

    def add(self, row: int, sentence: str) -> None:
        """A problem of the row with this index (not number)."""
        self.found.append((int(self.table.row_numbers[row]), sentence))

    def can_drop(self, row: int, column: str, sign: str, value: str) -> None:
        """A condition that leaves out the row with this index."""
        if all(map(_SPELLABLE.fullmatch, (column, value))):
            rows = self.conditions.setdefault(f"{column}{sign}{value}", set())
            rows.add(int(self.table.row_numbers[row]))

    def raise_all(self) -> None:
        """Raises one ValueError for all problems, in the order of rows, if there are any."""
        if not self.found:
            return
        # Sorting is stable: problems of one row stay in the order of columns.
        ordered = sorted(self.found, key=lambda problem: problem[0])
        kind, numbers = self.table.row_kind, sorted({number for number, _ in ordered})
        shown, rest = numbers[:_SHOWN], numbers[_SHOWN:]
        lines = [f"{kind} {number}: {said}" for number, said in ordered if number in shown]
        if rest:
            lines.append(f"and {len(rest)} more: {row_list(kind, rest, most=3)}")
        rows = "row" if len(numbers) == 1 else "rows"
        raise ValueError(
            f"{self.table.path} has {len(numbers)} bad {rows}; mend or drop "
            f"{self._them(len(numbers))}: {'; '.join(lines)}"
        )

    def _them(self, n_bad: int) -> str:
        """The bad rows, with the conditions that leave them out where a few do."""
        n_left_out = len(set().union(*self.conditions.values()))
        is_some = self.option and 0 < len(self.conditions) <= _SHOWN
        if not is_some or n_bad == len(self.table):
            return "them"
        asked = " ".join(f"{self.option} '{one}'" for one in self.conditions)
        which = "them" if n_left_out == n_bad else f"{n_left_out} of them"
        return f"them ({asked} leaves {which} out)"


def numbers(
    table: Table,
    column: str,
    problems: Problems,
    *,
    factor: float = 1.0,
    checked: Bool[Array, " n"] | None = None,
    allow_zero: bool = False,
    any_sign: bool = False,
) -> Float[Array, " n"]:
    """Numbers of a column times a factor, [n].

    A cell that is no positive finite number (or no finite one) becomes NaN, and a problem.

    Args:
      factor: to the field's own unit.
      checked: mask of the rows whose problems count; all by default. The others become NaN.
      allow_zero: whether zero is a number here. any_sign: whether negative ones are, too.
    """
    cells = table.columns[column]
    values = _floats(cells)
    if factor == 1.0 and (spelt := spelt_numbers(cells)):
        values, said = spelt
        problems.notes.append(f"{column}: {said}")
    with np.errstate(over="ignore"):
        values = factor * values
    is_number = ~np.isnan(values)
    is_legal_sign = any_sign | ((values >= 0) if allow_zero else (values > 0))
    legal = np.isfinite(values) & is_legal_sign
    bad = np.flatnonzero(~legal if checked is None else ~legal & checked).tolist()
    mixed = bool(bad) and is_mixed(cells)
    compares = bool(bad) and not any_sign and as_column(cells).dtype.kind == "f"
    for row in bad:
        cell = str(cells[row]).strip()
        shown = cell if len(cell) <= 40 else f"{cell[:36]}..."
        way_out = ""
        if not cell:
            problems.add(row, f"{column} is empty")
        elif is_number[row] or cell.lower().lstrip("+-") == "nan":
            must = "finite" if any_sign else "positive and finite"
            problems.add(row, f"{column} is {shown}, must be {must}")
        else:
            way_out = hint(cell, has_unit=factor != 1.0, is_mixed=mixed)
            problems.add(row, f"{column} is {shown!r}, not a number{way_out}")
        if compares and values[row] != math.inf:
            problems.can_drop(row, column, ">=" if allow_zero else ">", "0")
        elif shown == cell and not way_out:
            problems.can_drop(row, column, "!=", cell)
    return np.where(legal, values, math.nan)


def is_missing(cell: object) -> bool:
    """Whether a cell is empty, or a word for a number that is not there."""
    return str(cell).strip().lower() in MISSING


def has_values(table: Table, column: str) -> Bool[Array, " n"]:
    return np.array([not is_missing(cell) for cell in table.columns[column]], bool)


def text(table: Table, column: str) -> list[str]:
    """Cells of a column as text without surrounding blanks."""
    return [str(cell).strip() for cell in table.columns[column]]


def as_column(cells: Sequence[Any]) -> Shaped[Array, " n"]:
    """Numbers where every cell is one or is missing (then NaN), text otherwise."""
    values = _floats(cells)
    if all(is_missing(cells[i]) for i in np.flatnonzero(np.isnan(values)).tolist()):
        return values
    return np.array([str(cell) for cell in cells], str)


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
