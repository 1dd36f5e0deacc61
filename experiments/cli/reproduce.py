# SPDX-License-Identifier: Apache-2.0
"""isoflop reproduce: published numbers computed again, beside ours."""

import argparse

from rich.console import Console

from experiments.fit_tables import reproduce
from experiments.machine.jax_setup import prepare_to_fit

HELP = "published numbers computed again, beside ours"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    reproduce.add_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    prepare_to_fit()
    reproduce.reproduce(options, console)
