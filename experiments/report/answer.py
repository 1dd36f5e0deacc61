# SPDX-License-Identifier: Apache-2.0
"""The answer of a study on the terminal."""

from rich.console import Console
from rich.table import Table

from experiments.report import rows
from experiments.report.build import Report
from experiments.terminal.table import plain_table
from scaling.answers.frontier import Frontier


def print_answer(console: Console, report: Report) -> None:
    """The frontier, the exponents, the findings and the forecasts."""
    analysis = report.analysis
    table = plain_table("approach", "a (N* ~ C^a)", "b (D* ~ C^b)", "runs", "status")
    for cells in rows.exponent_rows(analysis):
        table.add_row(*cells)
    console.print(table)
    for name, reason in analysis.refusals.items():
        console.print(f"{name}: no answer: {reason}")
    for sentence in rows.findings(analysis):
        console.print(f"- {sentence}")
    if report.main is not None:
        console.print(_frontier_table(analysis.frontiers[report.main]))
    for judged in report.forecasts:
        for row in rows.forecast_rows(judged):
            console.print(row["sentence"])


def _frontier_table(frontier: Frontier) -> Table:
    title = f"Compute-optimal frontier, {frontier.approach}, {frontier.level:.0%} intervals"
    found = rows.frontier_rows(frontier)
    table = plain_table(*found[0], no_wrap=True, title=title)
    for row in found:
        table.add_row(*row.values())
    return table
