# SPDX-License-Identifier: Apache-2.0
"""isoflop gc: show or remove what nobody needs any more."""

import argparse

from rich.console import Console

from experiments.cli.opening.open_study import add_study, called, open_study
from experiments.cli.options.limits import add_limits, limits_of
from experiments.operations import gc

HELP = "show what nobody needs any more: checkpoints of finished runs, files of killed writes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    parser.add_argument("--delete", action="store_true", help="remove what is shown")
    text = "also checkpoints and weights of runs no longer asked for; their results stay"
    parser.add_argument("--others", action="store_true", help=text)
    text = "also the ends of trunks whose points are done; longer runs would train them anew"
    parser.add_argument("--trunks", action="store_true", help=text)
    text = "also data in results/.data that no study names; a study that asks again prepares anew"
    parser.add_argument("--data", action="store_true", help=text)
    add_limits(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    _, ledger = open_study(options)
    given = {"others": options.others, "trunks": options.trunks, "data": options.data}
    gc.gc(
        called(options),
        ledger,
        console,
        delete=options.delete,
        options=[name for name, is_given in given.items() if is_given],
        limits=limits_of(options, ledger),
    )
