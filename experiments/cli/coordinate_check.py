# SPDX-License-Identifier: Apache-2.0
"""isoflop coordinate-check: activations and their updates against width and depth."""

import argparse

from rich.console import Console

from experiments.checks.coordinates import command
from experiments.cli.open_study import add_study, open_manifest, open_study

HELP = "sizes of activations and of their updates against width and depth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    command.add_options(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    study, ledger = open_study(options)
    manifest = open_manifest(study, ledger, console)
    command.coordinate_check(options, study, ledger, manifest, console)
