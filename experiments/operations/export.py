# SPDX-License-Identifier: Apache-2.0
"""isoflop export: every point of a study as one table, or its metrics in another tool.

The table begins with the columns of table.csv, so that `isoflop fit` reads it, and goes on with
``spec.*`` (all that moves the loss), ``cost.*`` and ``provenance.*`` of the finished points.
"""

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from experiments.files.storage import PosixStorage
from experiments.ledger.claims import LEASE_SECONDS, MAX_ATTEMPTS
from experiments.ledger.ledger import Ledger
from experiments.ledger.point_states import read_asked, survey
from experiments.ledger.tables import NO_OUTCOME, csv_text, flat, table_row
from experiments.operations.sinks import Exported, Sink, open_sink
from experiments.plan.point import Point


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of export."""
    text = "table of all points (results/STUDY/export.parquet)"
    parser.add_argument("--out", type=Path, metavar="FILE.parquet|FILE.csv", help=text)
    text = "metrics of all runs into tensorboard DIR, or wandb PROJECT, instead of a table"
    parser.add_argument("--to", nargs=2, metavar=("SINK", "PLACE"), help=text)


def export(options: Any, ledger: Ledger, console: Console) -> None:
    """Writes what was asked for from the ledger as it is now.

    Raises:
      ValueError: if the study was never run, or a name is none that can be written.
      Damaged: if a result cannot be read.
    """
    path = options.out or ledger.folder / "export.parquet"
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"--out {path}: must end with .parquet or .csv.")
    sink = None if options.to is None else open_sink(*options.to)
    points = ledger.read_plan()
    if not points:
        raise ValueError(f"{ledger.folder} has no plan. `isoflop run {options.study}` makes one.")
    if sink is not None:
        n_runs = _fill(sink, ledger, points)
        console.print(f"metrics of {n_runs} runs in {' '.join(options.to)}")
    if sink is None or options.out is not None:
        table = list(rows(ledger, points))
        data = csv_text(table).encode() if path.suffix == ".csv" else _parquet(table)
        PosixStorage(path.parent).replace(path.name, data)
        console.print(f"{len(points)} runs in {path}")


def rows(ledger: Ledger, points: list[Point]) -> Iterator[dict[str, Any]]:
    """One row per point; the status of those without a result is their state."""
    states = survey(
        ledger,
        read_asked(ledger),
        n_devices=1,
        lease_seconds=LEASE_SECONDS,
        max_attempts=MAX_ATTEMPTS,
    )
    for point in points:
        spec = _flattened("spec", msgspec.to_builtins(point.spec))
        if (record := ledger.read_result(point.id)) is None:
            state = states[point.id]
            outcome = NO_OUTCOME | {"status": state.state, "reason": state.reason}
            yield table_row(point, outcome) | spec
        else:
            costs = _flattened("cost", record["costs"])
            provenance = _flattened("provenance", flat(record["provenance"]))
            notes = {"notes": "; ".join(record["notes"])}
            yield table_row(point, record) | notes | spec | costs | provenance


def _flattened(prefix: str, value: Any) -> dict[str, Any]:
    """Dotted names of all that is nested; lists as words."""
    if isinstance(value, dict):
        pairs = [_flattened(f"{prefix}.{name}", item) for name, item in value.items()]
        return {name: item for pair in pairs for name, item in pair.items()}
    return {prefix: " ".join(map(str, value)) if isinstance(value, list | tuple) else value}


def _parquet(table: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = dict.fromkeys(name for row in table for name in row)
    columns = {name: [row.get(name) for row in table] for name in names}
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def _fill(sink: Sink, ledger: Ledger, points: list[Point]) -> int:
    """Writes every run that has metrics; returns how many."""
    n_runs = 0
    for point in points:
        if attempts := ledger.attempts(point.id):
            sink.write(_exported(ledger, point, attempts))
            n_runs += 1
    return n_runs


def _exported(ledger: Ledger, point: Point, attempts: list[int]) -> Exported:
    """A run as its last attempts trained it: steps that were trained again count once."""
    train: list[dict[str, Any]] = []
    seconds = 0.0
    for attempt in attempts:
        found, _ = ledger.read_metrics(point.id, attempt)
        if found:
            train = [row for row in train if row["step"] <= found[0]["resumed_at"]]
            train += [row | {"wall_seconds": seconds + row["wall_seconds"]} for row in found]
            seconds = train[-1]["wall_seconds"]
    record = ledger.read_result(point.id)
    return Exported(
        id=point.id,
        name=f"{point.budget:.3g}-d{point.spec.model.d_model}-seed{point.seed}-{point.id}",
        settings=_flattened("spec", msgspec.to_builtins(point.spec)),
        train=train,
        validation=record["curve"] if record else [],
    )
