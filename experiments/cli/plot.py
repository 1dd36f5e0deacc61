# SPDX-License-Identifier: Apache-2.0
"""isoflop plot: draw the figures of a study."""

import argparse

from rich.console import Console

from experiments.cli.opening.open_report import open_report
from experiments.cli.opening.open_study import add_study
from experiments.report.fits import missing_runs

HELP = "draw the figures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    missing_runs.add_option(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    _, ledger, _, built = open_report(options)
    from experiments.report.figures.write import draw

    for path in draw(ledger, built).values():
        console.print(str(path))
