# SPDX-License-Identifier: Apache-2.0
"""isoflop doctor: verify every file of a study."""

import argparse
import sys

from rich.console import Console

from experiments.cli.opening.open_study import add_study, called, open_study
from experiments.executors import exit_codes
from experiments.operations import doctor

HELP = "verify every file of a study; name what is damaged and the way out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    _, ledger = open_study(options)
    if doctor.doctor(called(options), ledger, console):
        sys.exit(exit_codes.FAILED)
