# SPDX-License-Identifier: Apache-2.0
"""isoflop export: every run of a study as one table, or its metrics in another tool."""

import argparse

from rich.console import Console

from experiments.cli.opening.open_study import add_study, called, open_study
from experiments.cli.options.argument_types import file_path
from experiments.cli.options.limits import add_limits, limits_of
from experiments.operations import export

HELP = "one table of all runs, or metrics for other tools"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    text = "table of all points (results/STUDY/export.parquet)"
    parser.add_argument("--out", type=file_path, metavar="FILE.parquet|FILE.csv", help=text)
    text = "metrics of all runs into tensorboard DIR, or wandb PROJECT (a table instead)"
    parser.add_argument("--to", nargs=2, metavar=("SINK", "PLACE"), help=text)
    add_limits(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    _, ledger = open_study(options)
    limits = limits_of(options, ledger)
    to = None if options.to is None else (options.to[0], options.to[1])
    export.export(called(options), ledger, console, out=options.out, to=to, limits=limits)
