# SPDX-License-Identifier: Apache-2.0
"""isoflop next: which runs would narrow the answer most, for so many FLOPs."""

import argparse

from rich.console import Console

from experiments.adaptive.next_runs import TARGETS, Question, propose_next
from experiments.cli.opening.open_study import add_study, open_manifest, open_study
from experiments.cli.options.from_options import from_options
from experiments.machine.jax_setup import prepare_to_fit

HELP = "which runs would narrow the answer most, for so many FLOPs; trains nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add = parser.add_argument
    add("--budget", type=float, required=True, help="FLOPs that may be spent")
    text = "the training budget that the answer is for"
    add("--target-flops", type=float, required=True, metavar="C", help=text)
    add("--target", choices=TARGETS, default="loss", help="what to know better")
    text = "how often to choose again: proposes the first round's runs"
    add("--rounds", type=int, default=1, metavar="N", help=text)


def run(options: argparse.Namespace, console: Console) -> None:
    study, ledger = open_study(options)
    manifest = open_manifest(study, ledger, console)
    prepare_to_fit()
    question = from_options(Question, options)
    propose_next(question, study, ledger=ledger, manifest=manifest, console=console)
