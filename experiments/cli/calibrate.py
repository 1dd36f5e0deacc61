# SPDX-License-Identifier: Apache-2.0
"""isoflop calibrate: measure this machine's speed on the study's networks."""

import argparse
import dataclasses

from rich.console import Console

from experiments.cli.opening.open_study import add_study, open_plan, open_study
from experiments.cli.options import cost as cost_options
from experiments.cli.plan import show_plan
from experiments.cost.target import devices_at_once

HELP = "measure this machine's speed on the study's networks, and print the plan with it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    cost_options.add_cost(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    study, ledger = open_study(options)
    planned, _ = open_plan(study, ledger, console)
    from experiments.speed.calibrate import calibrate

    target = cost_options.target(options)
    # Asked before: measuring pins this process to the cores of one worker.
    n_devices = target.n_devices or devices_at_once(target, study, planned)
    calibrate(planned.points, study.mesh, results=options.results, console=console)
    target = dataclasses.replace(target, n_devices=n_devices)
    show_plan(study, ledger, planned, target=target, max_cost=options.max_cost, console=console)
