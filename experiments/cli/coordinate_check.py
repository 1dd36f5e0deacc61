# SPDX-License-Identifier: Apache-2.0
"""isoflop coordinate-check: activations and their updates against width and depth."""

import argparse

from rich.console import Console

from experiments.checks.coordinates.cases import Networks
from experiments.checks.coordinates.check import coordinate_check
from experiments.cli.opening.open_study import add_study, open_manifest, open_study
from experiments.cli.options.argument_types import file_path, seeds, whole_number, whole_numbers
from experiments.cli.options.from_options import from_options

HELP = "sizes of activations and of their updates against width and depth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add = parser.add_argument
    text = "at the recipe's base depth"
    add("--widths", type=whole_numbers, default=(32, 64, 128, 256), metavar="LIST", help=text)
    text = "at the recipe's base width"
    add("--depths", type=whole_numbers, default=(2, 4, 8, 16), metavar="LIST", help=text)
    text = "steps of each network"
    add("--steps", type=whole_number, default=10, metavar="N", help=text)
    add("--seeds", type=seeds, default=(0, 1, 2), metavar="LIST", help="of each network")
    text = "folder of coordinate_check.json, .md and .png (that of the study)"
    add("--out", type=file_path, metavar="DIR", help=text)


def run(options: argparse.Namespace, console: Console) -> None:
    study, ledger = open_study(options)
    networks = from_options(Networks, options, n_steps=options.steps)
    coordinate_check(
        study,
        ledger,
        manifest=open_manifest(study, ledger, console),
        networks=networks,
        out=options.out,
        command=_command(options),
        console=console,
    )


def _command(options: argparse.Namespace) -> str:
    """What gives the same answer again, whatever the defaults will be."""
    said = " ".join(["isoflop coordinate-check", options.study, *options.overrides])
    said += f" --steps {options.steps}"
    for name in ("widths", "depths", "seeds"):
        said += f" --{name} {','.join(map(str, getattr(options, name)))}"
    return said
