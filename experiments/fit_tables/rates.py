# SPDX-License-Identifier: Apache-2.0
"""Laws of the best learning rate and batch, from a table of runs over both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from experiments.fit_tables.display import interval_text, print_findings, print_law
from experiments.fit_tables.fit_law import read_table
from experiments.fit_tables.output import Output
from experiments.fit_tables.settings import Intervals, Reading
from experiments.terminal.table import plain_table
from scaling.tables.units import power

if TYPE_CHECKING:
    from rich.console import Console

    from scaling.hyperparameters.fit import Recommendation
    from scaling.tables.runs import Runs

_COLUMNS = ("learning_rate", "batch_tokens")


def answer_rates(
    path: str,
    reading: Reading,
    *,
    sizes: Sequence[tuple[float, float]],
    window: float,
    intervals: Intervals,
    output: Output,
) -> None:
    """Fits lr*(N, D) and batch*(D), prints them, and what they say of runs of given sizes.

    Args:
      sizes: (parameters, tokens) of those runs. window: as `fit_hyperparameters` takes it.

    Raises:
      ValueError: for a table without a learning rate and a batch.
    """
    from scaling.fit import SCHEMA_VERSION
    from scaling.hyperparameters.fit import fit_hyperparameters, recommend
    from scaling.json_values import encode

    found = fit_hyperparameters(
        _grid(read_table(path, reading)), window=window, **intervals.given()
    )
    advised = [recommend(found, *size) for size in sizes]
    output.console.print("lr* = exp(i) N^p D^q, batch* = exp(j) D^r tokens")
    print_law(output.console, found, "{:.4g}")
    print_findings(output.console, found.findings)
    if advised:
        _print_advice(output.console, sizes, advised)
    rows: list[dict[str, Any]] = [
        {"n_params": n_params, "n_tokens": n_tokens, **asdict(one)}
        for (n_params, n_tokens), one in zip(sizes, advised, strict=True)
    ]
    body = {"schema_version": SCHEMA_VERSION, "law": found, "recommended": rows}
    output.write(encode(body))


def _grid(runs: Runs) -> Any:
    from scaling.hyperparameters.surface_law import Grid

    runs = runs.select(runs.is_ok)
    table = runs.numeric
    if missing := [name for name in _COLUMNS if name not in table]:
        raise ValueError(
            f"the table has no {' and no '.join(missing)}: name the columns "
            "(--columns learning_rate=lr,batch_tokens=batch:2048; a batch in tokens)"
        )
    return Grid.of(
        n_params=runs.n_params,
        n_tokens=runs.n_tokens,
        lr=table["learning_rate"],
        batch_tokens=table["batch_tokens"],
        loss_nats=runs.loss_nats,
    )


def _print_advice(
    console: Console, sizes: Sequence[tuple[float, float]], advised: Sequence[Recommendation]
) -> None:
    """What is best for each run, and by which factor each may be off for `slack_nats`."""
    table = plain_table("N parameters", "D tokens", "learning rate", "batch, tokens", "")
    for (n_params, n_tokens), one in zip(sizes, advised, strict=True):
        table.add_row(
            power(n_params),
            power(n_tokens),
            f"{one.lr:.3g} ({interval_text(one.lr_interval, '{:.3g}')})",
            f"{one.batch_tokens:.3g} ({interval_text(one.batch_interval, '{:.3g}')})",
            "extrapolated" if one.is_extrapolated else "",
        )
    console.print(table)
    first = advised[0]
    console.print(
        f"the loss rises by {first.slack_nats:g} nats where the rate is {first.lr_slack:.2g} times "
        f"off, or the batch {first.batch_slack:.2g} times (the first of these)."
    )
