# SPDX-License-Identifier: Apache-2.0
"""isoflop optimum: N*, D* and L* at training budgets."""

import argparse

from rich.console import Console

from experiments.fit_tables import command
from experiments.machine.jax_setup import prepare_to_fit

HELP = "N*, D* and L* at training budgets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    command.add_optimum(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    prepare_to_fit()
    command.optimum(options, console)
