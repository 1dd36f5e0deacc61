# SPDX-License-Identifier: Apache-2.0
"""isoflop next: which runs would narrow the answer most, for so many FLOPs."""

import argparse

from rich.console import Console

from experiments.adaptive import next_runs
from experiments.cli.open_study import add_study, open_manifest, open_study
from experiments.machine.jax_setup import prepare_to_fit

HELP = "which runs would narrow the answer most, for so many FLOPs; trains nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    next_runs.add_options(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    study, ledger = open_study(options)
    manifest = open_manifest(study, ledger, console)
    prepare_to_fit()
    next_runs.propose_next(options, study, ledger, manifest, console)
