# SPDX-License-Identifier: Apache-2.0
"""isoflop lr-check: sweep the recipe's learning rate."""

import argparse

from rich.console import Console

from experiments.checks.learning_rate.check import lr_check
from experiments.checks.learning_rate.sweep import RATES, Sweep, sweep_name, sweep_within
from experiments.cli.opening.open_study import add_study, called, open_manifest, open_study
from experiments.cli.options.argument_types import file_path, positive_numbers, seeds, whole_numbers
from experiments.cli.options.training import add_training, training
from experiments.ledger.ledger import Ledger
from experiments.terminal.consoles import stderr
from experiments.train.run_points import require_none, stop_at_sigterm

HELP = "sweep the recipe's learning rate, print how many nats it is from the best"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add = parser.add_argument_group("sweep").add_argument
    text = "d_model (three of the study's own)"
    add("--widths", type=whole_numbers, metavar="LIST", help=text)
    text = "run lengths (the widest network's at the smallest and the largest budget)"
    add("--tokens", type=positive_numbers, metavar="LIST", help=text)
    text = "factors on the recipe's rate, 1 among them"
    add("--rates", type=positive_numbers, default=RATES, metavar="LIST", help=text)
    add("--seeds", type=seeds, default=(0, 1), metavar="LIST", help="of each rate")
    text = "folder of lr_check.json, .md and .png (that of the sweep)"
    add("--out", type=file_path, metavar="DIR", help=text)
    add_training(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    stop_at_sigterm()
    study, _ = open_study(options)
    asked = training(options)
    name = sweep_name(study)
    ledger = Ledger(options.results, name)
    notices = stderr()
    manifest = open_manifest(study, ledger, notices)
    sweep = sweep_within(
        study,
        manifest,
        widths=options.widths,
        n_tokens=options.tokens,
        rates=options.rates,
        seeds=options.seeds,
    )
    failures = lr_check(
        asked,
        study,
        ledger,
        manifest=manifest,
        sweep=sweep,
        out=options.out,
        command=_command(options, sweep),
        console=console,
        notices=notices,
    )
    require_none(failures, asked.max_attempts, called(options, f"name={name}"))


def _command(options: argparse.Namespace, sweep: Sweep) -> str:
    """What gives the same answer again, whatever the defaults will be."""
    said = ["isoflop lr-check", options.study, *options.overrides]
    for name, values in (
        ("widths", sweep.widths),
        ("tokens", sweep.n_tokens),
        ("rates", sweep.rates),
        ("seeds", sweep.seeds),
    ):
        said.append(f"--{name} {','.join(f'{value:.12g}' for value in values)}")
    return " ".join(said)
