# SPDX-License-Identifier: Apache-2.0
"""isoflop export: every point of a study as one table, or its metrics in another tool.

The table begins with the columns of table.csv, so that `isoflop fit` reads it, and goes on with
``spec.*`` (all that moves the loss), ``cost.*`` and ``provenance.*`` of the finished points.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from experiments.files.storage import Storage
from experiments.ledger.claims import Limits
from experiments.ledger.ledger import Ledger
from experiments.ledger.tables import Row, csv_text, flat, table_row
from experiments.ledger.verdict import Judge
from experiments.operations.sinks import Exported, Sink, open_sink
from experiments.plan.point import Point
from scaling.tables.units import power


def export(
    study_name: str,
    ledger: Ledger,
    console: Console,
    *,
    out: Path | None = None,
    to: tuple[str, str] | None = None,
    limits: Limits,
) -> None:
    """Writes what was asked for from the ledger as it is now.

    Args:
      out: the table; export.parquet in the study's folder where neither is given.
      to: a sink and its place.
      limits: by which jobs are judged.

    Raises:
      ValueError: if the study was never run, or a name is none that can be written.
      Damaged: if a result cannot be read.
    """
    path = out or ledger.folder / "export.parquet"
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"--out {path}: must end with .parquet or .csv.")
    sink = None if to is None else open_sink(*to)
    points = ledger.read_plan()
    if not points:
        raise ValueError(f"{ledger.folder} has no plan. `isoflop run {study_name}` makes one.")
    if sink is not None and to is not None:
        n_runs = _fill(sink, ledger, points)
        console.print(f"metrics of {n_runs} runs in {' '.join(to)}")
    if sink is None or out is not None:
        table = list(rows(ledger, points, limits))
        data = csv_text(table).encode() if path.suffix == ".csv" else _parquet(table)
        Storage(path.parent).replace(path.name, data)
        console.print(f"{len(points)} runs in {path}")


def rows(ledger: Ledger, points: Sequence[Point], limits: Limits) -> Iterator[Row]:
    """One row per point; the status of those without a result is their state.

    Raises:
      Damaged: if a result cannot be read.
    """
    judge = Judge(ledger, limits)
    for point in points:
        verdict = judge.outcome(point.id)
        row = table_row(point, verdict)
        spec = _flattened("spec", msgspec.to_builtins(point.spec))
        if (result := verdict.result) is None:
            yield row | spec
        else:
            costs = _flattened("cost", msgspec.to_builtins(result.costs))
            provenance = _flattened("provenance", flat(result.provenance))
            more = {"weights_sha256": result.weights_sha256, "notes": "; ".join(result.notes)}
            yield row | more | spec | costs | provenance


def _flattened(prefix: str, value: Any) -> Row:
    """Dotted names of all that is nested, by number in lists of records; other lists as words."""
    if isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        pairs = [_flattened(f"{prefix}.{name}", item) for name, item in value.items()]
        return {name: item for pair in pairs for name, item in pair.items()}
    return {prefix: " ".join(map(str, value)) if isinstance(value, list | tuple) else value}


def _parquet(table: Sequence[Row]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = dict.fromkeys(name for row in table for name in row)
    columns = {name: [row.get(name) for row in table] for name in names}
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def _fill(sink: Sink, ledger: Ledger, points: Sequence[Point]) -> int:
    """Writes every run that has metrics; returns how many."""
    n_runs = 0
    for point in points:
        if ledger.metrics.attempts(point.id):
            sink.write(_exported(ledger, point))
            n_runs += 1
    return n_runs


def _exported(ledger: Ledger, point: Point) -> Exported:
    result = ledger.read_result(point.id)
    seeds = point.seeds.replace("/", "-")  # A name is a folder to some sinks.
    return Exported(
        id=point.id,
        name=f"{power(point.budget)}-d{point.spec.model.d_model}-seed{seeds}-{point.id}",
        settings=_flattened("spec", msgspec.to_builtins(point.spec)),
        train=ledger.metrics.history(point.id),
        validation=result.curve if result else (),
    )
