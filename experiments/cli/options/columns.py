# SPDX-License-Identifier: Apache-2.0
"""Options of `isoflop fit` for a table that holds no runs: of anything, or of loss curves."""

import argparse

from experiments.cli.options.argument_types import file_path
from experiments.fit_tables.settings import Columns


def add_by_column(parser: argparse.ArgumentParser) -> None:
    """Options for a table of anything, whose columns a law reads by name."""
    add = parser.add_argument_group("any table, by column (needs no runs)").add_argument
    add("--target", metavar="COLUMN,...", help="what the law predicts, each by itself (its loss)")
    add("--by", metavar="COLUMN", help="fit each group of rows alike in it by itself (one group)")
    add("--predict", nargs=2, type=file_path, metavar=("ROWS", "OUT"),
        help="a table of rows to predict, and the CSV file for it (none)")  # fmt: skip


def add_schedules(parser: argparse.ArgumentParser) -> None:
    """Options for a table of loss curves."""
    title = "loss curves along schedules (--law multi_power; TABLE: run_id, step, loss_nats)"
    parser.add_argument_group(title).add_argument("--schedules", type=file_path, metavar="TABLE",
        help="their rates by run_id and step, linear in between; so is what --predict "
        "reads (learning_rate beside the losses)")  # fmt: skip


def by_column(options: argparse.Namespace) -> Columns:
    """What is asked of a table that holds no runs."""
    targets = tuple(filter(None, (options.target or "").split(",")))
    predict = (options.predict[0], options.predict[1]) if options.predict else None
    return Columns(targets=targets, by=options.by, predict=predict)
