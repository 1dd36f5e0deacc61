# SPDX-License-Identifier: Apache-2.0
"""isoflop fit: all approaches on a study's runs, or a law on a table of runs."""

import argparse

from rich.console import Console

from experiments.cli.opening.open_report import open_report
from experiments.cli.opening.open_study import add_study
from experiments.cli.options import tables as table_options
from experiments.cli.options.answers import add_answer, show_answer, where
from experiments.cli.options.columns import add_by_column, add_schedules, by_column
from experiments.fit_tables.fit_columns import answer_columns
from experiments.fit_tables.fit_law import answer_fit
from experiments.fit_tables.schedules import answer_schedules
from experiments.machine.jax_setup import prepare_to_fit
from experiments.report.fits import missing_runs
from scaling.tables.file import is_table

_OF_RUNS = (
    *("best_per", "flops_convention", "params_convention", "approach", "curve", "tokens"),
    *("accept", "seed_noise", "weights", "curves", "curves_columns", "curves_where", "select"),
    *("method", "profile", "figures"),
)
# The law of whole loss curves (scaling/laws/schedule_laws.py).
_OF_CURVES = "multi_power"
HELP = "fit all approaches to a study's runs, or a law to a TABLE of runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    missing_runs.add_option(parser)
    add_answer(parser)
    table_options.add_output(parser)
    table_options.add_table(parser)
    add_by_column(parser)
    add_schedules(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    if is_table(options.study):
        return _fit_table(options, console)
    if used := table_options.given(options):
        raise ValueError(
            f"{', '.join(used)}: for tables (.csv, .tsv, .txt, .jsonl, .parquet), not for a study, "
            f"which {options.study} is taken for"
        )
    _, ledger, _, built = open_report(options)
    from experiments.report.answer import print_answer, write_answer

    write_answer(ledger, built)
    with console.capture() as capture:
        print_answer(console, built)
    show_answer(options, ledger, f"{capture.get()}{where(ledger)}", console)


def _fit_table(options: argparse.Namespace, console: Console) -> None:
    table_options.refuse_overrides(options)
    prepare_to_fit()
    asked = by_column(options)
    if options.law == _OF_CURVES:
        if unused := table_options.used(options, *_OF_RUNS, "tie", "target", "by"):
            raise ValueError(f"{', '.join(unused)}: not with --law {_OF_CURVES}")
        return answer_schedules(
            options.study,
            table_options.reading(options),
            schedules=options.schedules,
            predict=asked.predict,
            fitting=table_options.fitting(options),
            output=table_options.output(options, console),
        )
    if options.schedules:
        raise ValueError(f"--schedules: only with --law {_OF_CURVES}")
    if asked.is_asked:
        if unused := table_options.used(options, *_OF_RUNS):
            raise ValueError(f"{', '.join(unused)}: for runs, not with --target, --by or --predict")
        return answer_columns(
            options.study,
            table_options.reading(options),
            asked=asked,
            fitting=table_options.fitting(options),
            output=table_options.output(options, console),
        )
    answer_fit(
        options.study,
        table_options.reading(options),
        fitting=table_options.fitting(options),
        profiled=table_options.profiled(options),
        output=table_options.output(options, console),
    )
