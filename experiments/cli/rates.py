# SPDX-License-Identifier: Apache-2.0
"""isoflop rates: the best learning rate and batch by size and length, from runs over both."""

import argparse

from rich.console import Console

from experiments.cli.options import tables as table_options
from experiments.cli.options.answers import add_json
from experiments.cli.options.argument_types import file_path, run_sizes
from experiments.fit_tables.rates import answer_rates
from experiments.machine.jax_setup import prepare_to_fit
from experiments.report.fits import missing_runs

HELP = "best learning rate and batch by N and D, from a TABLE of runs over both"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", metavar="TABLE", help="with learning_rate and batch_tokens")
    text = "runs of N parameters on D tokens: what is best for them (none)"
    parser.add_argument("--at", type=run_sizes, default=[], metavar="N:D,...", help=text)
    text = "relative excess over the lowest loss of an (N, D) up to which runs speak"
    parser.add_argument("--window", type=float, default=0.01, help=text)
    missing_runs.add_option(parser)
    add_json(parser)
    text = "the answer as one JSON object (none)"
    parser.add_argument("--out", type=file_path, metavar="FILE", help=text)
    table_options.add_reading(parser)
    add = parser.add_argument_group("intervals").add_argument
    add("--bootstrap", type=int, metavar="N", help="replicates; 0 for no intervals (200)")
    add("--seed", type=int, help="of the bootstrap (0)")
    add("--level", type=float, help="share of the truth that they are to hold (0.95)")
    parser.set_defaults(figures=None, no_intervals=None, method=None)


def run(options: argparse.Namespace, console: Console) -> None:
    table_options.refuse_overrides(options)
    prepare_to_fit()
    answer_rates(
        options.table,
        table_options.reading(options),
        sizes=options.at,
        window=options.window,
        intervals=table_options.intervals(options),
        output=table_options.output(options, console),
    )
