# SPDX-License-Identifier: Apache-2.0
"""isoflop check: compile every program of a study, train nothing."""

import argparse
import sys

from rich.console import Console

from experiments.checks.compile.check import check
from experiments.cli.opening.open_study import add_study, open_plan, open_study
from experiments.executors import exit_codes

HELP = "compile every program, train nothing: does it fit, what does it move, how long"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    text = "a slice of TPUs that need not be here, for instance v5e:16x16 (default: what is here)"
    parser.add_argument("--topology", metavar="NAME", help=text)


def run(options: argparse.Namespace, console: Console) -> None:
    study, ledger = open_study(options)
    planned, _ = open_plan(study, ledger, console)
    if not check(study, planned, topology=options.topology, ledger=ledger, console=console):
        sys.exit(exit_codes.FAILED)
