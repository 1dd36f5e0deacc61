# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that train."""

import argparse

from experiments.ledger.claims import MAX_ATTEMPTS
from experiments.train import engines


def add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=None, help="processes (one per core)")


def add_training(parser: argparse.ArgumentParser) -> None:
    """How runs are trained, and where."""
    add_workers(parser)
    parser.add_argument("--checkpoint-seconds", type=float, default=60.0, metavar="S")
    text = "silence after which another host may take a run over"
    parser.add_argument("--lease-seconds", type=float, default=120.0, metavar="S", help=text)
    text = "failures without progress after which a run waits for `isoflop retry`"
    parser.add_argument("--max-attempts", type=int, default=MAX_ATTEMPTS, metavar="N", help=text)
    text = "runs of one shape trained together on a device (as was measured to be best)"
    parser.add_argument("--pack", type=int, default=None, metavar="N", help=text)
    engines.add_options(parser)
