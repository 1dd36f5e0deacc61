# SPDX-License-Identifier: Apache-2.0
"""Runs and training curves from the files of anybody."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaling.tables.cells import Problems, has_values, numbers, text
from scaling.tables.columns import (
    convention_of,
    fields_of,
    further_columns,
    grouped_budgets,
    mapped,
    status_column,
    status_notes,
    with_sums,
)
from scaling.tables.file import read_table
from scaling.tables.row_filter import filtered
from scaling.tables.runs import CURVE_COLUMNS, Curves, Runs, check_conventions
from scaling.tables.units import column_and_factor, loss_unit

_CURVES_EXAMPLE = '--curves-columns "run_id=COLUMN,n_tokens=COLUMN:B,loss_nats=COLUMN"'


def read_runs(
    source: str | Path | Mapping[str, Any] | Any,
    *,
    flops: str | None = None,
    params: str = "total",
    columns: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
) -> Runs:
    """Runs from a CSV, TSV, JSON, JSONL (all also .gz) or Parquet file, or from a table in memory:
    a pandas or polars DataFrame, an Arrow table, a dict of columns. Every row is validated.

    Our own table.csv needs no mapping: the conventions choose among its columns. Any other table
    has columns named like the fields of `Runs`, or a mapping that names them and their units. Of
    parameters, tokens and flops (or budget) two are enough: C = 6ND gives the third. A table
    without budget gets one per run (budgets equal to rounding are one), without run_id the line
    number, without cluster_id one cluster per run, without status "ok". Of a status "ok",
    "finished", "done" and the like count. What is assumed is said in the findings of the runs.

    Args:
      flops: FLOP convention of the counts, one of FLOPS_CONVENTIONS; when not given
        "matmul_full" for our own table, "6n_total" where C = 6ND to 0.1 %, else "table".
      params: parameter convention, one of PARAMS_CONVENTIONS.
      columns: field of `Runs`, or another column that a law reads -> column in the file, with its
        unit where it is not the field's own: {"n_params": "size:M", "loss_nats": "bpb:bits"};
        units as in `units.column_and_factor`. "a+b" is the sum of two columns, and
        {"status": "state:done|cached"} names the words of a status that count.
      where: conditions that rows must meet, such as "fit_240=1"; others are not even validated.

    Raises:
      ValueError: for a missing column, or for bad rows: all of them in one message.
      OSError: if there is no such file.
    """
    check_conventions(params, flops or "table")
    given = columns or {}
    table, notes = filtered(with_sums(read_table(source), given), where)
    mapping = mapped(table, flops, params, given)
    _, ok_words = status_column(given.get("status", "status"), table.columns)
    problems = Problems(table=table)
    found = fields_of(table, mapping, problems, ok_words)
    extra = further_columns(table, mapping, problems)
    problems.raise_all()
    budget, assumed = grouped_budgets(found, mapping)
    return Runs(
        **(found | {"budget": budget}),
        params_convention=params,
        flops_convention=flops or convention_of(mapping, found, params),
        extra=extra,
        notes=(
            *(*table.notes, *notes, *dict.fromkeys(problems.notes)),
            *(*status_notes(table, mapping, ok_words), *assumed),
        ),
        loss_unit=loss_unit(given.get("loss_nats", "loss_nats"), table.columns),
    )


def as_runs(source: Runs | Any) -> Runs:
    """Runs as they are; anything else as `read_runs` reads it."""
    return source if isinstance(source, Runs) else read_runs(source)


def read_curves(
    path: str | Path,
    *,
    flops: str = "matmul_full",
    columns: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
) -> Curves:
    """Training curves from a CSV, JSONL or Parquet file.

    Args:
      path: columns run_id, step, n_tokens, loss_nats, and flops or flops_<convention>.
      flops: FLOP convention, used to choose the column when there are several.
      columns: field of `Curves` -> column name in the file, with units as for `read_runs`.
      where: conditions that rows must meet.

    Rows without a loss are steps at which nothing was evaluated: they are left out, and it is said.

    Raises:
      ValueError: for a missing column, or for bad rows: all of them in one message.
    """
    table, notes = filtered(read_table(path), where)
    own = f"flops_{flops}"
    named = {"flops": own if own in table.columns else "flops", **(columns or {})}
    mapping = {
        name: column_and_factor(name, named.get(name, name), table.columns)
        for name in CURVE_COLUMNS
    }
    table.require((column for column, _ in mapping.values()), _CURVES_EXAMPLE)
    has_loss = has_values(table, mapping["loss_nats"][0])
    if not has_loss.all():
        notes += (
            f"{int(np.sum(~has_loss))} of {len(table)} rows of the curves have no "
            f"{mapping['loss_nats'][0]} and are left out.",
        )
        table = table.select(has_loss)
    problems = Problems(table=table, option="--curves-where")
    ids = text(table, mapping.pop("run_id")[0])
    values = {
        name: numbers(table, column, problems, factor=factor, allow_zero=name != "loss_nats")
        for name, (column, factor) in mapping.items()
    }
    problems.raise_all()
    notes += tuple(problems.notes)
    return Curves(run_id=np.array(ids, str), notes=notes, **values)
