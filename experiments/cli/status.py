# SPDX-License-Identifier: Apache-2.0
"""isoflop status: how far a study is, and what it cost."""

import argparse

from rich.console import Console

from experiments.cli.open_study import add_study, open_study
from experiments.operations import status

HELP = "what is done, running, preempted, diverged, failed or waiting, and what it cost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    status.add_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    status.status(options, *open_study(options), console)
