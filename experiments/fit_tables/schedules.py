# SPDX-License-Identifier: Apache-2.0
"""The law of whole loss curves fitted to a table of evaluations, and schedules predicted by it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.fit_tables.display import interval_text, print_findings, print_law
from experiments.fit_tables.output import Output, write_columns
from experiments.fit_tables.settings import Fitting, Reading
from experiments.terminal.consoles import progress, stderr
from experiments.terminal.table import plain_table, wrapped

if TYPE_CHECKING:
    from rich.console import Console

    from scaling.schedules.fit import ScheduleFit
    from scaling.schedules.predict import Ranking
    from scaling.tables.arrays import Array

_RECORDED = (
    *("parameters", "intervals", "status", "certificate", "bootstrap", "residual_sd"),
    *("misfit_sd", "n_predicted", "lr_range", "lr_sum"),
)


def answer_schedules(
    path: str,
    reading: Reading,
    *,
    schedules: Path | None,
    predict: tuple[Path, Path] | None,
    fitting: Fitting,
    output: Output,
) -> None:
    """Fits the multi-power law to loss curves, prints it, and predicts other schedules.

    Args:
      schedules: a table of the curves' learning rates; None where they stand beside the losses.
      predict: a table of schedules, and the CSV file for their losses at 64 steps of each.

    Raises:
      ValueError: for columns that are missing or hold what they cannot.
      FitError: for too few evaluations.
    """
    from scaling.fit import SCHEMA_VERSION
    from scaling.json_values import encode
    from scaling.schedules.fit import fit_schedules
    from scaling.schedules.loss_curves import read_loss_curves, read_schedules
    from scaling.solve.progress import heard_by

    named = reading.columns
    curves = read_loss_curves(path, schedules=schedules, columns=named, where=reading.where)
    new, said = read_schedules(predict[0], columns=named) if predict else ({}, ())
    chosen = {"fixed": fitting.fixed, "bounds": fitting.bounds, **fitting.intervals.given()}
    if fitting.objective is not None:
        chosen["objective"] = fitting.objective
    with progress(stderr()) as tell, heard_by(lambda now: tell(f"fitting {path}: {now}")):
        tell(f"fitting {path}")
        found = fit_schedules(curves.run, curves.step, curves.loss, curves.schedules, **chosen)
    findings = (*curves.notes, *found.findings)
    n_runs = len(np.unique(curves.run))
    say = output.console.print
    say(wrapped(f"{found.law.name}: {found.law.formula}"), markup=False, highlight=False)
    say(f"{len(curves.loss)} evaluations of {n_runs} runs; {found.objective.sentence}")
    print_law(output.console, found, "{:.6g}")
    answer: dict[str, Any] = {name: getattr(found, name) for name in _RECORDED} | {
        "schema_version": SCHEMA_VERSION,
        "law": found.law.name,
        "formula": found.law.formula,
        "objective": found.objective.name,
        "fixed": fitting.fixed,
        "bounds": fitting.bounds,
    }
    if predict:
        from scaling.schedules.predict import rank_schedules

        ranking = rank_schedules(found, new)
        findings = (*findings, *said, *ranking.findings)
        answer["ranking"], answer["predicted"] = ranking, _along(found, new)
        _print_ranking(output.console, ranking)
        write_columns(predict[1], answer["predicted"])
        say(f"{len(new)} schedules predicted: {predict[1]}")
    print_findings(output.console, findings)
    output.write(encode(answer | {"findings": findings}))


def _print_ranking(console: Console, ranking: Ranking) -> None:
    table = plain_table("schedule", "loss at the end", "interval", "behind the best")
    rows = zip(ranking.names, ranking.loss, ranking.interval, ranking.behind, strict=True)
    for name, loss, interval, behind in rows:
        table.add_row(name, f"{loss:.4f}", interval_text(interval, "{:.4f}"), f"{behind:.4f}")
    console.print(table)


def _along(found: ScheduleFit, new: Mapping[str, Array]) -> dict[str, list[Any]]:
    """Losses along each schedule, at 64 steps, as columns."""
    from scaling.schedules.predict import predict_schedule

    columns: dict[str, list[Any]] = {
        name: [] for name in ("run_id", "step", "loss_nats", "loss_nats_lower", "loss_nats_upper")
    }
    for name, lr in new.items():
        steps, band = predict_schedule(found, lr)
        of_run = ([name] * len(steps), steps.tolist(), band.value, band.lower, band.upper)
        for column, values in zip(columns.values(), of_run, strict=True):
            column += list(values)
    return columns
