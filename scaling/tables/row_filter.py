# SPDX-License-Identifier: Apache-2.0
"""Rows of a table that meet conditions such as fit_240=1 or flops<1e21."""

import operator
import re
from collections.abc import Sequence

import numpy as np

from scaling.tables.arrays import Array
from scaling.tables.cells import as_column, text
from scaling.tables.file import Table

_TESTS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def filtered(table: Table, conditions: Sequence[str]) -> tuple[Table, tuple[str, ...]]:
    """The rows that meet all conditions, and what was left out, in words.

    A condition is COLUMN=VALUE, or !=, <, <=, >, >= in place of =, or several with " or " between
    them; columns by their name in the file, numbers compared as numbers where the whole column and
    the value are numbers.

    Raises:
      ValueError: for a condition that is none, a column that is missing, or no row left.
    """
    keep = np.ones(len(table), bool)
    for condition in conditions:
        keep &= np.any([_meets(table, one) for one in condition.split(" or ")], axis=0)
    if keep.all():
        return table, ()
    asked = " and ".join(f"({one})" if " or " in one else one for one in conditions)
    if not keep.any():
        raise ValueError(f"{table.path}: none of {len(table)} rows meets {asked}")
    sentence = f"{int((~keep).sum())} of {len(table)} rows are left out: not {asked}."
    return table.select(keep), (sentence,)


def _meets(table: Table, condition: str) -> Array:
    found = re.fullmatch(r"\s*(.+?)\s*(==|!=|<=|>=|=|<|>)\s*(.*?)\s*", condition)
    if not found:
        raise ValueError(f"condition {condition!r} is not of the form COLUMN=VALUE or COLUMN<VALUE")
    name, sign, value = found.groups()
    table.require([name])
    test = _TESTS["=" if sign == "==" else sign]
    column = as_column(table.columns[name])
    try:
        number = float(value)
    except ValueError:
        number = np.nan
    if np.issubdtype(column.dtype, np.floating) and np.isfinite(number):
        return np.asarray(test(column, number))
    if sign not in ("=", "==", "!="):
        what = repr(value) if np.isnan(number) else _first_text(table, name)
        raise ValueError(f"condition {condition!r}: {what} is no number")
    return np.asarray(test(np.array(text(table, name)), value))


def _first_text(table: Table, name: str) -> str:
    """The first cell of a column that is no number, and where it is."""
    cells = enumerate(table.columns[name])
    row, cell = next((i, c) for i, c in cells if as_column([c]).dtype.kind != "f")
    return f"{cell!r} ({name}, {table.row_kind} {table.row_numbers[row]})"
