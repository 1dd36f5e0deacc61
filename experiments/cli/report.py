# SPDX-License-Identifier: Apache-2.0
"""isoflop report: write the figures and report.html of a study."""

import argparse

from rich.console import Console

from experiments.cli.opening.open_report import open_report
from experiments.cli.opening.open_study import add_study
from experiments.report.fits import missing_runs

HELP = "write figures and report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    missing_runs.add_option(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    study, ledger, points, built = open_report(options)
    from experiments.report.page.page import write

    write(ledger, study, points, built)
    console.print(str(ledger.report))
