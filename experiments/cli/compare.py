# SPDX-License-Identifier: Apache-2.0
"""isoflop compare: laws by hold-out, or two recipes by their compute."""

import argparse

from rich.console import Console

from experiments.fit_tables import command
from experiments.machine.jax_setup import prepare_to_fit

HELP = "rank laws by hold-out; or compute of B over A"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    command.add_compare(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    prepare_to_fit()
    command.compare(options, console)
