# SPDX-License-Identifier: Apache-2.0
"""Columns of numbers from a table of anything, for laws that read other things than runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from scaling.tables.arrays import Array
from scaling.tables.cells import Problems, numbers, text
from scaling.tables.columns import with_sums
from scaling.tables.file import read_table
from scaling.tables.row_filter import filtered
from scaling.tables.units import column_and_factor


def read_columns(
    source: str | Path | Mapping[str, Any] | Any,
    names: Sequence[str],
    *,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] = (),
    where: Sequence[str] = (),
) -> dict[str, Shaped[Array, " n"]]:
    """Columns by name, numbers [n] of any sign; those of `labels` as text.

    Args:
      source: as `read_tables.read_runs` takes it.
      names: wanted, as a law calls them; log_X is the logarithm of X, or a column that is called
        log_X itself.
      columns: name -> column in the file, with its unit where the numbers are to be multiplied.
      labels: columns of the file, such as one that tells groups apart.
      where: conditions that rows must meet.

    Raises:
      ValueError: for a missing column, or for bad cells: all of them in one message.
    """
    given = columns or {}
    table, _ = filtered(with_sums(read_table(source), given), where)
    mapping = {}
    for name in names:
        plain = name.removeprefix("log_")
        own = name if name in given or (plain not in given and name in table.columns) else plain
        mapping[own] = column_and_factor(own, given.get(own, own), table.columns)
    if unknown := sorted(set(given) - set(mapping)):
        raise ValueError(
            f"--columns names {unknown[0]}, which nothing reads here; read are {', '.join(mapping)}"
        )
    table.require([*(column for column, _ in mapping.values()), *labels])
    problems = Problems(table=table)
    found: dict[str, Array] = {
        name: numbers(table, column, problems, factor=factor, any_sign=True)
        for name, (column, factor) in mapping.items()
    }
    problems.raise_all()
    return found | {name: np.array(text(table, name), str) for name in labels}
