# SPDX-License-Identifier: Apache-2.0
"""isoflop fit: all approaches on a study's runs, or a law on a table of runs."""

import argparse

from rich.console import Console

from experiments.cli.open_report import open_report
from experiments.cli.open_study import add_study
from experiments.fit_tables import command
from experiments.fit_tables import options as table_options
from experiments.machine.jax_setup import prepare_to_fit
from experiments.report import missing_runs

HELP = "fit all approaches to a study's runs, or a law to a TABLE of runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    table_options.add_options(parser)
    table_options.add_outputs(parser)
    missing_runs.add_option(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    if command.is_table(options):
        prepare_to_fit()
        return command.fit(options, console)
    study, ledger, _, built = open_report(options)
    from experiments.report import report

    report.print_answer(console, study, ledger, built)
