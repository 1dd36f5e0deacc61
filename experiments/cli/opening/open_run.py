# SPDX-License-Identifier: Apache-2.0
"""The RUN that a command names."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.opening.load_study import load_study
from experiments.cli.options.argument_types import file_path

if TYPE_CHECKING:
    from experiments.weights.load_model import LoadedModel


def add_run(parser: argparse.ArgumentParser) -> None:
    """A run, and where results are."""
    text = "results/STUDY/runs/ID, or STUDY:ID, of ID the beginning"
    parser.add_argument("trained", metavar="RUN", help=text)
    parser.add_argument(
        "--results", type=file_path, default=Path("results"), help="folder of results"
    )


def open_run(options: argparse.Namespace) -> "LoadedModel":
    """The network with its weights.

    Raises:
      ValueError: if there is no such run, or nothing of it to load.
    """
    name = run_name(options)
    from experiments.machine.jax_setup import pin_numbers
    from experiments.weights.load_model import load_model

    pin_numbers()
    return load_model(name, results=options.results)


def run_name(options: argparse.Namespace) -> str:
    """As find_run knows it: studies by name, also where their file is named.

    Raises:
      ValueError: if a study's file is none, or more was named than one run.
    """
    if options.overrides:
        raise ValueError(f"{options.overrides[0]!r}: one run at a time, as it is.")
    study, colon, run_id = options.trained.rpartition(":")
    if colon and study.endswith(".py"):
        return f"{load_study(study).name}:{run_id}"
    return options.trained
