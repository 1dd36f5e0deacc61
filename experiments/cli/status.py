# SPDX-License-Identifier: Apache-2.0
"""isoflop status: how far a study is, and what it cost."""

import argparse

from rich.console import Console

from experiments.cli.opening.open_study import add_study, called, open_study
from experiments.cli.options.limits import add_limits, limits_of
from experiments.operations import status

HELP = "what is done, running, preempted, diverged, failed or waiting, and what it cost"
WATCH_SECONDS = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    text = f"look again every {WATCH_SECONDS:g} or so many seconds until all has ended (one look)"
    parser.add_argument(
        "--watch", type=float, nargs="?", const=WATCH_SECONDS, metavar="SECONDS", help=text
    )
    parser.add_argument("--json", action="store_true", help="every run, as one JSON object")
    add_limits(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    study, ledger = open_study(options)
    limits = limits_of(options, ledger)
    if options.json and options.watch is not None:
        raise ValueError("--json: one look; leave --watch out.")
    status.status(
        study,
        ledger,
        console,
        name=called(options),
        limits=limits,
        watch=options.watch,
        as_json=options.json,
    )
