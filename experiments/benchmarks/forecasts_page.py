# SPDX-License-Identifier: Apache-2.0
"""The page of make bench-forecast."""

from collections.abc import Mapping
from typing import Any

from experiments.benchmarks.record import made_by
from experiments.files import markdown
from scaling.tables.units import power


def page(record: dict[str, Any]) -> str:
    """forecasts.md."""
    n_done = record["studies"] - len(record["unfinished"])
    n_budgets = len(record["budgets"])
    budgets = ", ".join(power(budget) for budget in record["budgets"])
    commits = ", ".join(sorted({row["git_commit"][:7] for row in record["forecasts"]}))
    lines = [
        "# Forecasts of small studies",
        "",
        f"{made_by(record)} {n_done} of {record['studies']} studies, fixed in "
        "`experiments/benchmarks/forecasts.py` before the first was run; all that are finished are "
        f"counted. Grids of {budgets} FLOPs; forecasts at 3 and 10 times the largest, written "
        f"before their runs by commit {commits} (`isoflop scoreboard`), one per study and factor. "
        "In brackets 95 % intervals of a share (Clopper and Pearson 1934): seeds and languages "
        "differ, while studies of one text and recipe share how far the law's form is off.",
        "",
        "Fall: the lowest mean loss of the grid at its largest budget, less the loss that came "
        "out. Error and width are medians, and so is by how much the bootstrap's interval was "
        "widened; not widened, so many are inside. Conformal: inside the interval at the highest "
        f"level that the budgets support, {n_budgets} in {n_budgets + 1}. Curve: share of a run's "
        "evaluations inside the 95 % band of the curve that was forecast.",
        "",
    ]
    shown = (
        "inside 95 %",
        "not widened",
        "error, nats",
        "error, of the fall",
        "width, nats",
        "widened",
    )
    heads = ("beyond", "data", *shown, "conformal", "curve")
    rows = [
        (
            *(f"{one['factor']:g}x", one["data"]),
            f"{one['inside']} of {one['forecasts']} ({one['lower']:.0%} to {one['upper']:.0%})",
            *(one["inside_bootstrap"], _number(one["error_nats"])),
            _percent(one["error_of_fall"]),
            *(_number(one["width_nats"]), f"{one['widened']:.2f}"),
            f"{one['conformal']} of {one['conformal_known']}",
            _percent(one["curve_inside"]),
        )
        for one in record["summary"]
    ]
    lines += markdown.table(heads, rows)
    lines += ["", "![Observed against nominal coverage](forecasts.png)", ""]
    columns = ("study", "recipe", "length", "alpha", "beyond", "forecast", "came out", "inside")
    lines += markdown.table(columns, [_row(row) for row in record["forecasts"]])
    left = record["unfinished"]
    lines += ["", f"Not finished, or without both: {', '.join(left)}."] if left else []
    return "\n".join(lines) + "\n"


def _row(row: Mapping[str, Any]) -> tuple[object, ...]:
    ends = " to ".join(_number(row[name]) for name in ("lower", "upper"))
    of = [row[name] for name in ("study", "recipe", "seq_len")]
    came_out = "diverged" if row["came_out"] is None else f"{row['came_out']:.3f}"
    return (
        *(*of, "" if row["alpha"] is None else row["alpha"], f"{row['factor']:g}x"),
        *(f"{row['value']:.3f} ({ends})", came_out, "yes" if row["inside"] else "no"),
    )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0%}"
