# SPDX-License-Identifier: Apache-2.0
"""isoflop reproduce: published numbers computed again, beside ours."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from experiments.cli.options.argument_types import file_path
from experiments.executors import exit_codes
from experiments.fit_tables.reproduce import list_cases, reproduce
from experiments.machine.jax_setup import prepare_to_fit

HELP = "published numbers computed again, beside ours"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", help="cases; none: list them")
    parser.add_argument("--all", action="store_true", help="every case")
    parser.add_argument(
        "--results", type=file_path, default=Path("results"), help="where figures go"
    )


def run(options: argparse.Namespace, console: Console) -> None:
    prepare_to_fit()
    from scaling.published.cases import NAMES, case_named

    names = [*options.names, *options.overrides]
    if options.all and names:
        raise ValueError(f"--all runs every case: leave out {', '.join(names)}, or --all")
    if not (options.all or names):
        return list_cases([case_named(name) for name in NAMES], console)
    cases = [case_named(name) for name in (NAMES if options.all else names)]
    if not reproduce(cases, options.results, console):
        sys.exit(exit_codes.FAILED)
