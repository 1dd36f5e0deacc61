# SPDX-License-Identifier: Apache-2.0
"""isoflop calibrate: measure this machine's speed on the study's networks."""

import argparse

from rich.console import Console

from experiments.cli import plan
from experiments.cli.open_study import add_study, open_plan, open_study
from experiments.cost import options as cost_options
from experiments.speed import calibration

HELP = "measure this machine's speed on the study's networks, and print the plan with it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    cost_options.add_options(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    study, ledger = open_study(options)
    planned, _ = open_plan(study, ledger, console)
    from experiments.speed.calibrate import calibrate

    # Asked before: measuring pins this process to the cores of one worker.
    options.n_devices = options.n_devices or cost_options.devices_at_once(options, study, planned)
    calibration.store(options.results, calibrate(study, planned, options.results, console))
    plan.run(options, console)
