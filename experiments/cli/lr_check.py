# SPDX-License-Identifier: Apache-2.0
"""isoflop lr-check: sweep the recipe's learning rate."""

import argparse

from rich.console import Console

from experiments.checks.learning_rate import command
from experiments.cli.open_study import add_study, open_manifest, open_study
from experiments.cli.training_options import add_training
from experiments.ledger.ledger import Ledger
from experiments.train.run_points import stop_at_sigterm

HELP = "sweep the recipe's learning rate, print how many nats it is from the best"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add_training(parser)
    command.add_options(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    stop_at_sigterm()
    study, _ = open_study(options)
    ledger = Ledger(options.results, command.sweep_name(study))
    manifest = open_manifest(study, ledger, console)
    command.lr_check(options, study, ledger, manifest, console)
