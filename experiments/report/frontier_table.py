# SPDX-License-Identifier: Apache-2.0
"""A frontier as a table: the answer of a study, and of `isoflop optimum`."""

from rich.console import Console

from experiments.terminal.table import COLUMNS, fitting_table, fitting_tables
from scaling.answers.frontier import Frontier
from scaling.shown import counted, loss_text, with_interval
from scaling.tables.units import bits_words, power


def frontier_rows(
    frontier: Frontier, unit: str, loss_unit: str, bits_per_nat: float | None
) -> list[dict[str, str]]:
    """The answer, one row per budget, every number with its interval, by falling importance.

    Args:
      unit: of what is counted as tokens: "byte", "pixel" or "token". loss_unit: in words.
      bits_per_nat: of the losses, as Runs have it.
    """
    shown = []
    for i, flops in enumerate(frontier.flops):
        loss, ratio = frontier.loss_opt.at(i), frontier.tokens_per_param.at(i)
        row = {
            "FLOPs": power(flops) + "*" * bool(frontier.is_extrapolated[i]),
            "parameters N*": counted(frontier.n_params_opt.at(i)),
            loss_unit: loss_text(loss),
            f"{unit}s D*": counted(frontier.n_tokens_opt.at(i)),
            f"{unit}s per parameter": with_interval(ratio.value, ratio.interval, "{:.3g}"),
        }
        if bits_per_nat is not None:
            row[bits_words(loss_unit)] = loss_text(loss.times(bits_per_nat))
        shown.append(row)
    return shown


def print_frontier(
    console: Console, frontier: Frontier, unit: str, loss_unit: str, bits_per_nat: float | None
) -> None:
    """The answer in at most 80 columns: all of it in a pipe, on such a terminal what has room."""
    shown = frontier_rows(frontier, unit, loss_unit, bits_per_nat)
    fitting = fitting_tables if console.width > COLUMNS else fitting_table
    console.print(fitting(shown, console.width))
    if frontier.is_extrapolated.any():
        console.print("* beyond the budgets or the sizes that were trained")
