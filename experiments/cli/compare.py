# SPDX-License-Identifier: Apache-2.0
"""isoflop compare: laws by hold-out; two recipes, or the settings of one table, by compute."""

import argparse
from pathlib import Path

from rich.console import Console

from experiments.cli.opening.load_study import load_study
from experiments.cli.opening.open_study import RESULTS
from experiments.cli.options import tables as table_options
from experiments.cli.options.answers import add_json
from experiments.cli.options.argument_types import file_path
from experiments.cli.options.values import numbers
from experiments.fit_tables.compare import compare_laws, compare_recipes
from experiments.fit_tables.compare_settings import compare_settings
from experiments.ledger.ledger import Ledger
from experiments.machine.jax_setup import prepare_to_fit
from experiments.report.fits import missing_runs
from scaling.tables.file import is_table

HELP = "rank laws by hold-out; or compute of A over B, or over each setting"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tables", nargs="+", metavar="TABLE",
                        help="or a study with results; one: laws; two: recipes A, B")  # fmt: skip
    add = parser.add_argument_group("laws, of one table").add_argument
    add("--laws", metavar="LAW,...", help="by their names (additive,curved,kaplan,over_training)")
    text = "fit the runs below so many FLOPs (all but about a fifth)"
    add("--below", type=float, metavar="C", help=text)
    add = parser.add_argument_group("settings, of one table").add_argument
    add("--by", metavar="COLUMN", help="one for each value of a column (none: laws)")
    text = "the value that the others are compared with (the first of the table)"
    add("--against", metavar="VALUE", help=text)
    add = parser.add_argument_group("two recipes").add_argument
    text = "FLOPs of A, where A and B are compared (where both have runs)"
    add("--flops", metavar="C,...", help=text)
    text = "each with its own, or one additive law's for both (free)"
    add("--exponents", choices=("free", "shared"), help=text)
    missing_runs.add_option(parser)
    add_json(parser)
    table_options.add_output(parser)
    table_options.add_table(parser)
    parser.add_argument("--results", type=file_path, default=RESULTS, help="folder of results")


def run(options: argparse.Namespace, console: Console) -> None:
    table_options.refuse_overrides(options)
    if len(options.tables) > 2:
        raise ValueError(f"compare takes one table or two, not {len(options.tables)}")
    options.tables = [_table(name, options.results) for name in options.tables]
    prepare_to_fit()
    if options.by is not None:
        return _settings(options, console)
    _refuse(options, "no --by", "against")
    (_laws if len(options.tables) == 1 else _recipes)(options, console)


def _table(name: str, results: Path) -> str:
    """A table as it is named, or that of a study with results."""
    if is_table(name) or (Path(name).is_file() and not name.endswith(".py")):
        return name
    path = Ledger(results, load_study(name, results).name).table
    if not path.exists():
        raise ValueError(f"{name}: there is no {path}. `isoflop fit` writes it.")
    return str(path)


def _laws(options: argparse.Namespace, console: Console) -> None:
    _refuse(
        options,
        "one table",
        "flops",
        "exponents",
        "law",
        "approach",
        "curves",
        "bootstrap",
        "method",
    )
    compare_laws(
        options.tables[0],
        table_options.reading(options),
        laws=[table_options.law(one) for one in options.laws.split(",")] if options.laws else None,
        below=options.below,
        fitting=table_options.fitting(options),
        output=table_options.output(options, console),
    )


def _settings(options: argparse.Namespace, console: Console) -> None:
    if len(options.tables) > 1:
        raise ValueError("--by: of one table, whose settings are compared; give one")
    _refuse(options, "--by", "laws", "below", "flops", "exponents", "curves")
    compare_settings(
        options.tables[0],
        table_options.reading(options),
        by=options.by,
        against=options.against,
        fitting=table_options.fitting(options),
        output=table_options.output(options, console),
    )


def _recipes(options: argparse.Namespace, console: Console) -> None:
    _refuse(options, "two tables", "laws", "below")
    is_shared = options.exponents == "shared"
    if is_shared:
        names = ("law", "approach", "fix", "tie", "bound", "weights", "curves")
        _refuse(options, "--exponents shared", *names)
    a, b = options.tables
    compare_recipes(
        (a, b),
        table_options.reading(options),
        flops=numbers("--flops", options.flops) if options.flops else None,
        is_shared=is_shared,
        fitting=table_options.fitting(options),
        output=table_options.output(options, console),
    )


def _refuse(options: argparse.Namespace, what: str, *names: str) -> None:
    if used := table_options.used(options, *names):
        raise ValueError(f"{', '.join(used)}: not for compare with {what}")
