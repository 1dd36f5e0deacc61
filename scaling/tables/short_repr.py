# SPDX-License-Identifier: Apache-2.0
"""How results look where they are printed, on a terminal and in a notebook."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from html import escape
from typing import Any

import numpy as np

MOST_LINES, MOST_COLUMNS = 15, 80


class ShortRepr:
    """A dataclass of which printing shows at most 15 lines of 80 columns, and no replicates.

    Decorate it with ``repr=False``.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        lines = self._told()
        if len(lines) > MOST_LINES:
            lines = [*lines[: MOST_LINES - 1], f"... {len(lines) - MOST_LINES + 1} more lines"]
        return "\n".join(_cut(line, MOST_COLUMNS) for line in lines)

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        return f"<pre>{escape(repr(self))}</pre>"

    def _told(self) -> Sequence[str]:
        """A line for the kind of result, and one for each of its fields."""
        told = {f.name: _brief(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]
        width = max(map(len, told))
        return [type(self).__name__, *(f"  {name:{width}}  {text}" for name, text in told.items())]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines with columns, as many from the left as have room: none is cut."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while len(widths) > 1 and sum(widths) + 2 * (len(widths) - 1) > MOST_COLUMNS:
        widths.pop()
    return [
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    ]


def _cut(line: str, most: int) -> str:
    return line if len(line) <= most else f"{line[: most - 3]}..."


def _brief(value: Any) -> str:
    """A field in few words."""
    if isinstance(value, np.ndarray):
        return _of_array(value)
    if isinstance(value, ShortRepr):
        return value._told()[0]
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_brief(one)}" for name, one in value.items()) or "none"
    if isinstance(value, tuple | list):
        more = f", and {len(value) - 1} more" * (len(value) > 1)
        return _cut(_brief(value[0]), 56) + more if value else "none"
    return str(value).partition("\n")[0]


def _of_array(values: np.ndarray) -> str:
    shape = " x ".join(map(str, values.shape))
    if not values.size:
        return f"[{shape}]"
    if not np.issubdtype(values.dtype, np.number):
        return f"[{shape}] {values.flat[0]}" + ", ..." * (values.size > 1)
    finite = values[np.isfinite(values)]
    return f"[{shape}] " + (f"{finite.min():.4g} to {finite.max():.4g}" if finite.size else "nan")
