# SPDX-License-Identifier: Apache-2.0
"""How numbers and tables look on the terminal."""

import textwrap
from collections.abc import Mapping, Sequence

from rich.console import Group, JustifyMethod
from rich.table import Table

COLUMNS = 80


def plain_table(
    *columns: str, justify: JustifyMethod = "left", no_wrap: bool = False, title: str | None = None
) -> Table:
    """A table without lines, with these columns to begin with."""
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, justify=justify, no_wrap=no_wrap)
    return table


def fitting_table(
    rows: Sequence[Mapping[str, str]],
    width: int,
    *,
    fewest: int = 1,
    justify: JustifyMethod = "left",
) -> Table:
    """A plain table of as many columns, from the left, as have room, or the fewest: none is cut."""
    names = list(rows[0])
    sizes = [max(len(name), *(len(row[name]) for row in rows)) for name in names]
    while len(names) > fewest and sum(sizes) + 2 * (len(names) - 1) > width:
        names.pop()
        sizes.pop()
    table = plain_table(*names, justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*(row[name] for name in names))
    return table


def fitting_tables(rows: Sequence[Mapping[str, str]], width: int, *, n_keys: int = 1) -> Group:
    """All columns in at most 80: those without room follow in further tables.

    Args:
      n_keys: columns from the left that say what a row is of; each table begins with them.
    """
    tables: list[Table] = []
    left = list(rows[0])
    while len(left) > n_keys or not tables:
        shown = [{name: row[name] for name in left} for row in rows]
        tables.append(fitting_table(shown, min(width, COLUMNS), fewest=min(n_keys + 1, len(left))))
        left = [*left[:n_keys], *left[len(tables[-1].columns) :]]
    return Group(*tables)


def wrapped(text: str, indent: str = "") -> str:
    """A sentence in lines of at most 80 columns, wherever it goes; later lines are indented."""
    return textwrap.fill(
        text, COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def number_table(*columns: str) -> Table:
    """A plain table of numbers: to the right, each on one line."""
    return plain_table(*columns, justify="right", no_wrap=True)


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def amount(value: float | None) -> str:
    """A number, or "unknown": never 0 for what nobody knows."""
    return "unknown" if value is None else f"{value:.3g}"
