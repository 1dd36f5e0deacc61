# SPDX-License-Identifier: Apache-2.0
"""Options of `isoflop run` for runs that are chosen by what is known so far."""

import argparse
from typing import get_args

from experiments.adaptive.until import Asked, Per
from experiments.cli.options.from_options import from_options


def add_until(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("runs chosen by what is known so far").add_argument
    text = '"ci(a) < 0.02" or "ci(n_params_opt) < 10 %%": ends when it is met (the grid is trained)'
    add("--until", metavar="GOAL", help=text)
    text = "training budget that N* and the loss of the goal are for (10 times the largest)"
    add("--target-flops", type=float, metavar="C", help=text)
    text = "most FLOPs to spend on all runs (those of the study's grid)"
    add("--budget", type=float, metavar="C", help=text)
    text = "choose runs for what they tell per FLOP or per device-second (flop)"
    add("--per", choices=get_args(Per), help=text)


def asked(options: argparse.Namespace) -> Asked | None:
    """What is asked for; None without a goal.

    Raises:
      ValueError: for an option that says nothing without a goal.
    """
    if options.until:
        return from_options(Asked, options, goal=options.until, per=options.per or "flop")
    for name in ("target_flops", "budget", "per"):
        if getattr(options, name) is not None:
            option = "--" + name.replace("_", "-")
            raise ValueError(f"{option} is of --until GOAL: give one, or leave it out.")
    return None
