# SPDX-License-Identifier: Apache-2.0
"""Options that say what a device-hour is and costs."""

import argparse

from experiments.cli.options.argument_types import positive_number, whole_number
from experiments.cli.options.from_options import from_options
from experiments.cost.target import CARBON, CARBON_SOURCE, PUE, PUE_SOURCE, Target


def add_cost(parser: argparse.ArgumentParser) -> None:
    """What `isoflop plan` must be told to know time, energy and money."""
    add = parser.add_argument_group("cost").add_argument
    text = "what trains, such as h200, a100-sxm-80gb or v5e (this machine)"
    add("--device", metavar="NAME", help=text)
    text = "share of the device's peak that training reaches (from measurements)"
    add("--mfu", type=_share, metavar="X", help=text)
    text = "devices at once (as many as `isoflop run` uses here; one run's on another device)"
    add("--n-devices", type=whole_number, metavar="N", help=text)
    add("--price", type=positive_number, metavar="P", help="of one device-hour (unknown)")
    text = "refuse a plan that costs more, in the currency of --price (no limit)"
    add("--max-cost", type=positive_number, metavar="M", help=text)
    text = "power of one device (its nominal power, where known)"
    add("--watts", type=positive_number, metavar="W", help=text)
    text = f"power of the site over that of its devices; {PUE_SOURCE}"
    add("--pue", type=_pue, default=PUE, metavar="X", help=text)
    text = f"grams of CO2 per kWh; {CARBON_SOURCE}"
    add("--carbon", type=positive_number, default=CARBON, metavar="G", help=text)


def _share(text: str) -> float:
    value = positive_number(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0 and at most 1")
    return value


def _pue(text: str) -> float:
    value = positive_number(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return value


def target(
    options: argparse.Namespace, *, n_workers: int | None = None, is_here: bool = True
) -> Target:
    """What these options say of what trains."""
    return from_options(
        Target, options, utilisation=options.mfu, n_workers=n_workers, is_here=is_here
    )
