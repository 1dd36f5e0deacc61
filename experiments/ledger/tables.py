# SPDX-License-Identifier: Apache-2.0
"""Ledger -> table.csv, curves.csv, contexts.csv and costs.csv of a study; derived, sorted by plan.

The first three hold only what follows from the specs, so that an interrupted study
gives the same bytes as an undisturbed one; seconds, hosts and versions are in ``costs.csv``, which
has a row for each trunk, too.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from experiments.files.storage import replace_text
from experiments.ledger.ledger import Ledger
from experiments.ledger.result import Provenance, Result, Trunk
from experiments.ledger.verdict import Judge, Verdict
from experiments.plan.point import Point
from model.data.source import IMAGE_KINDS
from model.network.config import ModelConfig
from model.network.counts.total import FLOP_CONVENTIONS
from model.training.objectives.kinds import KINDS
from model.training.outcome import ALL
from scaling.tables.units import BOUND

Cell = str | int | float | None
Row = dict[str, Cell]


def collate(ledger: Ledger, points: Sequence[Point]) -> None:
    """Writes the tables of the points that have ended, failed ones included.

    Raises:
      Damaged: if a result is not what was written.
    """
    for path, text in tables(ledger, points).items():
        replace_text(path, text)


def tables(ledger: Ledger, points: Sequence[Point]) -> dict[Path, str]:
    """What the tables should hold, by their path; raises Damaged."""
    table: list[Row] = []
    curves: list[Row] = []
    contexts: list[Row] = []
    costs: list[Row] = []
    judge = Judge(ledger)
    for point in points:
        verdict = judge.outcome(point.id)
        if verdict.result is not None:
            curves += _curve_rows(point, verdict.result)
            contexts += _context_rows(point, verdict.result)
            costs.append(_cost_row(point.id, verdict.result))
        if verdict.result is not None or verdict.state == "failed":
            table.append(table_row(point, verdict))
    for name, trunk in ledger.trunks({point.cluster_id for point in points}).items():
        costs.append(_cost_row(name, trunk))
    return {
        ledger.table: csv_text(table),
        ledger.curves: csv_text(curves),
        **({ledger.contexts: csv_text(contexts)} if contexts else {}),
        ledger.costs: csv_text(costs),
    }


def _cost_row(run_id: str, record: Result | Trunk) -> Row:
    spent = {f"flops_spent_{c}": flops for c, flops in sorted(record.flops_spent.items())}
    costs = dict(sorted(msgspec.to_builtins(record.costs).items()))
    return {"run_id": run_id} | costs | spent | flat(record.provenance)


def flat(provenance: Provenance) -> Row:
    """Provenance by name, its lists as words, so that a cell holds them."""
    fields = dict(sorted(msgspec.to_builtins(provenance).items()))
    fields["attempts"] = " ".join(f"{ended.how}@{ended.step}" for ended in provenance.attempts)
    fields["resumed_at_steps"] = " ".join(map(str, provenance.resumed_at_steps))
    return fields


def table_row(point: Point, verdict: Verdict) -> Row:
    """What was asked and what came out, for one point."""
    model, train, result = point.spec.model, point.spec.train, verdict.result
    kind, ratio = KINDS[train.objective], train.mask_ratio
    has_pixels = result is not None and _has_pixels(point, result)
    return {
        "run_id": point.id,
        "role": point.role,
        "status": "ok" if verdict.state == "done" else verdict.state,
        "reason": verdict.reason,
        "flags": " ".join(result.flags) if result else "",
        "budget": point.budget,
        "convention": point.convention,
        "n_params": point.params.total,
        "n_params_non_embedding": point.params.non_embedding,
        "n_params_active": point.params.active,
        "n_tokens": point.n_tokens,
        **{f"flops_{c}": point.flops[c] for c in FLOP_CONVENTIONS},
        **_losses(result),
        **(_bits_per_dim(result) if result and has_pixels else {}),
        "loss_per": None if result is None else "pixel" if has_pixels else kind.unit,
        "loss_kind": BOUND if kind.is_bound else "measured",
        "oracle_loss_nats": result.oracle_loss_nats if result else None,
        "vocab_size": model.vocab_size,
        "d_model": model.d_model,
        "n_layers": model.n_layers,
        "objective": train.objective,
        **({} if ratio is None else {"mask_ratio": ratio}),
        "blocks": model.pattern,
        **_encoder(model),
        **{name: value for layer in model.layers for name, value in layer.columns().items()},
        "seq_len": model.seq_len,
        **({} if model.patches is None else {"n_images": point.n_tokens // model.seq_len}),
        "context_bytes": _context_bytes(point, result),
        "batch_size": train.batch_size,
        "n_steps": train.schedule.n_steps,
        "hidden_learning_rate": train.optimizer.hidden.learning_rate,
        "epochs": point.epochs,
        "seed": train.init_seed,
        "data_seed": train.data_seed,
        **point.axes,
        "cluster_id": point.cluster_id,
        "params_sha256": result.params_sha256 if result else None,
    }


def _encoder(model: ModelConfig) -> Row:
    """What it reads, and its blocks, where there is one."""
    if (encoder := model.encoder_net) is None:
        return {}
    return {"source_len": encoder.seq_len, "encoder_blocks": encoder.pattern}


def _losses(result: Result | None) -> Row:
    """Of the whole validation set, then of each of its domains."""
    loss = result.loss if result else None
    domains = {
        name: part for name, part in (result.losses if result else {}).items() if name != ALL
    }
    return {
        "loss_nats": loss.nats if loss else None,
        "loss_se_nats": loss.se_nats if loss else None,
        **({"error_rate": loss.error_rate} if loss and loss.error_rate is not None else {}),
        "bits_per_byte": loss.bits_per_byte if loss else None,
        "se_bits_per_byte": loss.se_bits_per_byte if loss else None,
        **{f"loss_nats_{name}": part.nats for name, part in domains.items()},
        **{f"bits_per_byte_{name}": part.bits_per_byte for name, part in domains.items()},
    }


def _has_pixels(point: Point, result: Result) -> bool:
    """Whether its losses are of values of pixels."""
    is_of_images = result.provenance.data_kind in IMAGE_KINDS
    return is_of_images and KINDS[point.spec.train.objective].unit == "token"


def _bits_per_dim(result: Result) -> Row:
    """Nats per value of a pixel in bits, and what the true source has, where that is known."""
    loss = result.loss
    found = {
        "bits_per_dim": loss.nats if loss else None,
        "se_bits_per_dim": loss.se_nats if loss else None,
        "oracle_bits_per_dim": result.oracle_loss_nats,
    }
    return {name: None if nats is None else nats / math.log(2.0) for name, nats in found.items()}


def _context_bytes(point: Point, result: Result | None) -> float | None:
    """Text of a whole window, on average: the most that a prediction sees."""
    loss = result.loss if result else None
    if loss is None or loss.n_bytes is None:
        return None
    return point.spec.model.seq_len * loss.n_bytes / loss.n_units


def _curve_rows(point: Point, result: Result) -> list[Row]:
    per_token = {c: point.flops[c] / point.n_tokens for c in FLOP_CONVENTIONS}
    has_pixels = _has_pixels(point, result)
    return [
        {
            "run_id": point.id,
            "role": point.role,
            "step": row.step,
            "n_tokens": row.n_tokens,
            **{f"flops_{c}": per_token[c] * row.n_tokens for c in FLOP_CONVENTIONS},
            "loss_nats": row.loss_nats,
            "bits_per_byte": row.bits_per_byte,
            **({"bits_per_dim": row.loss_nats / math.log(2.0)} if has_pixels else {}),
        }
        for row in result.curve
    ]


def _context_rows(point: Point, result: Result) -> list[Row]:
    """Losses by how much of its window a prediction sees."""
    bins = result.loss.by_context if result.loss else ()
    return [
        {
            "run_id": point.id,
            "role": point.role,
            "least_seen": one.least_seen,
            "most_seen": one.most_seen,
            "n_units": one.n_units,
            "loss_nats": one.nats,
        }
        for one in bins
    ]


def csv_text(rows: Sequence[Mapping[str, Cell]]) -> str:
    """CSV with the columns of all rows, empty where a row lacks one."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n", restval="")
    writer.writeheader()
    for row in rows:
        cells = row.items()
        writer.writerow({k: printable(v) if isinstance(v, str) else v for k, v in cells})
    return file.getvalue()


def printable(text: str) -> str:
    """Text on one line and without what a reader of CSV stumbles over: a NUL, a lone CR."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
