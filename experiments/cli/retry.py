# SPDX-License-Identifier: Apache-2.0
"""isoflop retry: let failed runs be tried again."""

import argparse

from rich.console import Console

from experiments.cli.opening.open_study import add_study, called, open_study
from experiments.cli.options.limits import add_limits, limits_of
from experiments.operations import retry

HELP = "let failed runs be tried again: all of them, or those whose ids follow"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add_limits(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    ids = [word for word in options.overrides if "=" not in word]
    options.overrides = [word for word in options.overrides if "=" in word]
    _, ledger = open_study(options)
    retry.retry(called(options), ids, ledger, console, limits=limits_of(options, ledger))
