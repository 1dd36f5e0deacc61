# SPDX-License-Identifier: Apache-2.0
"""isoflop optimum: N*, D* and L* at training budgets, and the loss of a given N and D."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from experiments.cli.options import tables as table_options
from experiments.cli.options.answers import add_json
from experiments.cli.options.argument_types import run_sizes
from experiments.cli.options.values import numbers
from experiments.fit_tables.fit_law import fit_table, read_fit, read_table
from experiments.fit_tables.optimum import answer_optimum
from experiments.machine.jax_setup import prepare_to_fit
from experiments.report.fits import missing_runs
from scaling.tables.units import power

if TYPE_CHECKING:
    from experiments.fit_tables.settings import Fitting
    from scaling.fit import Fit
    from scaling.tables.runs import Runs

HELP = "N*, D* and L* at training budgets; the loss of a given N and D"
# What a written fit leaves open.
_OPEN = ("--out", "--figures", "--level")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="FIT.json|TABLE", help="what `isoflop fit` wrote, or runs")
    add("--flops", metavar="C,...", help="training budgets (none)")
    text = "runs of N parameters on D tokens: their loss (none)"
    add("--at", type=run_sizes, default=[], metavar="N:D,...", help=text)
    text = "served over its life: also the model of equal loss that is cheapest with them (none)"
    add("--inference-tokens", metavar="D,...", help=text)
    missing_runs.add_option(parser)
    add_json(parser)
    table_options.add_output(parser)
    table_options.add_table(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    table_options.refuse_overrides(options)
    prepare_to_fit()
    served = options.inference_tokens
    needy = table_options.used(options, "inference_tokens", "figures")
    if options.flops is None and (needy or not options.at):
        why = f" for {', '.join(needy)}" * bool(needy)
        raise ValueError(f"no budget{why}: give --flops C, such as 1e20.")
    budgets = [] if options.flops is None else numbers("--flops", options.flops)
    inference_tokens = [] if served is None else numbers("--inference-tokens", served)
    output = table_options.output(options, console)
    answer_optimum(
        _fit(options),
        budgets=budgets,
        sizes=options.at,
        inference_tokens=inference_tokens,
        level=table_options.intervals(options).level,
        output=output,
    )


def _fit(options: argparse.Namespace) -> Fit:
    if not Path(options.source).exists():
        raise ValueError(
            f"{options.source}: there is no such file. Give a table of runs or a fit; those of a "
            "study are results/STUDY/fits/additive.json and so on."
        )
    if Path(options.source).suffix.lower() != ".json":
        runs = read_table(options.source, table_options.reading(options))
        fitting = table_options.fitting(options)
        _require_budgets(options.source, runs, fitting)
        return fit_table(runs, fitting)
    if used := [flag for flag in table_options.given(options) if flag not in _OPEN]:
        raise ValueError(f"{', '.join(used)}: {options.source} is a fit already")
    return read_fit(Path(options.source))


def _require_budgets(source: str, runs: Runs, fitting: Fitting) -> None:
    """Raises ValueError for a table of one budget, which says nothing of others."""
    from scaling.answers.best_size import is_one_budget

    if fitting.approach in (None, "isoflop") and is_one_budget(runs):
        raise ValueError(
            f"{source}: its runs are of one budget, {power(runs.budget[runs.is_ok][0])} FLOPs, "
            f"and tell no optimum at others. `isoflop fit {source}`, without --flops, gives "
            "the best size at this one."
        )
