# SPDX-License-Identifier: Apache-2.0
"""--lease-seconds and --max-attempts of the commands that judge runs."""

import argparse
import dataclasses

from experiments.ledger.claims import Limits
from experiments.ledger.ledger import Ledger


def add_limits(parser: argparse.ArgumentParser) -> None:
    """What `isoflop run` was told stands in the ledger; these say otherwise."""
    as_told = "(as the last `isoflop run` was told)"
    text = f"silence after which a run elsewhere is taken for dead {as_told}"
    parser.add_argument("--lease-seconds", type=float, metavar="S", help=text)
    text = f"failures without progress that make a run a failed one {as_told}"
    parser.add_argument("--max-attempts", type=int, metavar="N", help=text)


def limits_of(options: argparse.Namespace, ledger: Ledger) -> Limits:
    """Those of the ledger, but for what was asked for."""
    given = {"lease_seconds": options.lease_seconds, "max_attempts": options.max_attempts}
    chosen = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(ledger.limits(), **chosen)
