# SPDX-License-Identifier: Apache-2.0
"""isoflop export: every run of a study as one table, or its metrics in another tool."""

import argparse

from rich.console import Console

from experiments.cli.open_study import add_study, open_study
from experiments.operations import export

HELP = "one table of all runs, or metrics for other tools"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    export.add_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    _, ledger = open_study(options)
    export.export(options, ledger, console)
