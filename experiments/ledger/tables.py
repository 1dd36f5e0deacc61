# SPDX-License-Identifier: Apache-2.0
"""Ledger -> table.csv, curves.csv and costs.csv of a study; derived, sorted by plan.

``table.csv`` and ``curves.csv`` hold only what follows from the specs, so that an interrupted study
gives the same bytes as an undisturbed one; seconds, hosts and versions are in ``costs.csv``, which
has a row for each trunk, too.
"""

import csv
import io
from pathlib import Path
from typing import Any

from experiments.files.storage import replace_text
from experiments.ledger.claims import MAX_ATTEMPTS
from experiments.ledger.ledger import Ledger
from experiments.plan.point import Point
from model.network.counts.total import FLOP_CONVENTIONS

NO_OUTCOME = dict.fromkeys(("loss_nats", "bits_per_byte", "oracle_loss_nats", "params_sha256"))


def collate(ledger: Ledger, points: list[Point]) -> None:
    """Writes the tables of the points that have ended, failed ones included.

    Raises:
      Damaged: if a result is not what was written.
    """
    for path, text in tables(ledger, points).items():
        replace_text(path, text)


def tables(ledger: Ledger, points: list[Point]) -> dict[Path, str]:
    """What the tables should hold, by their path; raises Damaged."""
    table, curves, costs = [], [], []
    for point in points:
        if (record := ledger.read_result(point.id)) is not None:
            table.append(table_row(point, record))
            curves += _curve_rows(point, record)
            costs.append(_cost_row(point.id, record))
        elif len(failures := ledger.job(point.id).failures()) >= MAX_ATTEMPTS:
            reason = {"status": "failed", "reason": failures[-1].reason}
            table.append(table_row(point, NO_OUTCOME | reason))
    for name, trunk in ledger.trunks({point.cluster_id for point in points}).items():
        costs.append(_cost_row(name, trunk))
    return {
        ledger.table: csv_text(table),
        ledger.curves: csv_text(curves),
        ledger.costs: csv_text(costs),
    }


def _cost_row(run_id: str, record: dict[str, Any]) -> dict[str, Any]:
    # Absent from results of an earlier version.
    spent = {f"flops_spent_{c}": flops for c, flops in record.get("flops_spent", {}).items()}
    return {"run_id": run_id} | record["costs"] | spent | flat(record["provenance"])


def flat(provenance: dict[str, Any]) -> dict[str, Any]:
    """Provenance with its lists as words, so that a cell holds them."""
    flat = {}
    for name, value in provenance.items():
        if name == "attempts":
            value = [f"{attempt['how']}@{attempt['step']}" for attempt in value]
        flat[name] = " ".join(map(str, value)) if isinstance(value, list) else value
    return flat


def table_row(point: Point, record: dict[str, Any]) -> dict[str, Any]:
    """What was asked and what came out, for one point; ``NO_OUTCOME`` fills what did not."""
    model, train = point.spec.model, point.spec.train
    return {
        "run_id": point.id,
        "role": point.role,
        "status": record["status"],
        "reason": record["reason"],
        "budget": point.budget,
        "convention": point.convention,
        "n_params": point.params.total,
        "n_params_non_embedding": point.params.non_embedding,
        "n_params_active": point.params.active,
        "n_tokens": point.n_tokens,
        **{f"flops_{c}": point.flops[c] for c in FLOP_CONVENTIONS},
        "loss_nats": record["loss_nats"],
        "bits_per_byte": record["bits_per_byte"],
        "oracle_loss_nats": record["oracle_loss_nats"],
        "d_model": model.d_model,
        "n_layers": model.n_layers,
        "n_heads": model.n_heads,
        "d_ff": model.d_ff,
        "seq_len": model.seq_len,
        "batch_size": train.batch_size,
        "n_steps": train.schedule.n_steps,
        "hidden_learning_rate": train.optimizer.hidden.learning_rate,
        "epochs": point.epochs,
        "seed": point.seed,
        **point.axes,
        "cluster_id": point.cluster_id,
        "params_sha256": record["params_sha256"],
    }


def _curve_rows(point: Point, record: dict[str, Any]) -> list[dict[str, Any]]:
    per_token = {c: point.flops[c] / point.n_tokens for c in FLOP_CONVENTIONS}
    return [
        {
            "run_id": point.id,
            "role": point.role,
            "step": row["step"],
            "n_tokens": row["n_tokens"],
            **{f"flops_{c}": per_token[c] * row["n_tokens"] for c in FLOP_CONVENTIONS},
            "loss_nats": row["loss_nats"],
        }
        for row in record["curve"]
    ]


def csv_text(rows: list[dict[str, Any]]) -> str:
    """CSV with the columns of all rows, empty where a row lacks one."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return file.getvalue()


def _cell(value: Any) -> Any:
    """Text on one line and without what a reader of CSV stumbles over: a NUL, a lone CR."""
    if not isinstance(value, str) or value.isprintable():
        return value
    return "".join(c if c.isprintable() else " " for c in value)
