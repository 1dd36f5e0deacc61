# SPDX-License-Identifier: Apache-2.0
"""isoflop optimum: N*, D* and L* at training budgets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from experiments.cli import table_options
from experiments.fit_tables.fit_law import fit_table, read_fit, read_table
from experiments.fit_tables.optimum import answer_optimum
from experiments.machine.jax_setup import prepare_to_fit
from experiments.report import missing_runs

if TYPE_CHECKING:
    from scaling.fit import Fit

HELP = "N*, D* and L* at training budgets"
# What a written fit leaves open.
_OPEN = ("--out", "--figures", "--level")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="FIT.json|TABLE", help="what `isoflop fit` wrote, or runs")
    add("--flops", metavar="C,...", required=True, help="training budgets")
    add("--inference-tokens", metavar="D", help="tokens served over its life")
    table_options.add_table(parser)
    table_options.add_output(parser)
    missing_runs.add_option(parser)
    parser.set_defaults(overrides=[])


def run(options: argparse.Namespace, console: Console) -> None:
    table_options.refuse_overrides(options)
    prepare_to_fit()
    served = options.inference_tokens
    budgets = table_options.numbers("--flops", options.flops)
    inference_tokens = table_options.numbers("--inference-tokens", served) if served else []
    output = table_options.output(options)
    answer_optimum(
        _fit(options),
        budgets,
        inference_tokens=inference_tokens,
        level=table_options.intervals(options).level,
        output=output,
        console=console,
    )


def _fit(options: argparse.Namespace) -> Fit:
    if Path(options.source).suffix.lower() != ".json":
        runs = read_table(options.source, table_options.reading(options))
        return fit_table(runs, table_options.fitting(options))
    if used := [flag for flag in table_options.given(options) if flag not in _OPEN]:
        raise ValueError(f"{', '.join(used)}: {options.source} is a fit already")
    return read_fit(Path(options.source))
