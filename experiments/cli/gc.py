# SPDX-License-Identifier: Apache-2.0
"""isoflop gc: show or remove what nobody needs any more."""

import argparse

from rich.console import Console

from experiments.cli.open_study import add_study, open_study
from experiments.operations import gc

HELP = "show what nobody needs any more: checkpoints of finished runs, files of killed writes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    gc.add_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    _, ledger = open_study(options)
    gc.gc(options, ledger, console)
