# SPDX-License-Identifier: Apache-2.0
"""Tables that fit: no cell is cut, and where nothing may be left out the rest follows."""

import io

import pytest
from rich.console import Console

from experiments.terminal.table import fitting_tables

ROWS = [
    {"size": f"{n}k", "best": "1", **{str(v): f"{n}.{v:04}" for v in range(20)}} for n in (1, 2)
]


@pytest.mark.parametrize("width", [160, 80, 40, 20])
def test_all_columns_are_shown_behind_the_keys(width):
    console = Console(file=io.StringIO(), width=width, soft_wrap=True)
    console.print(fitting_tables(ROWS, width, n_keys=2))
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert max(map(len, console.file.getvalue().splitlines())) <= max(min(width, 80), 20)
    heads, cells = lines[::3], lines[1::3]
    assert [head[:2] for head in heads] == [["size", "best"]] * len(heads)
    assert [cell for head in heads for cell in head[2:]] == [str(v) for v in range(20)]
    assert [cell for row in cells for cell in row[2:]] == [f"1.{v:04}" for v in range(20)]


def test_one_column_is_a_table():
    console = Console(file=io.StringIO(), width=80)
    console.print(fitting_tables([{"size": "1k"}], 80))
    assert console.file.getvalue().split() == ["size", "1k"]
