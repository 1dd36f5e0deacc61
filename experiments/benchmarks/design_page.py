# SPDX-License-Identifier: Apache-2.0
"""The page and the figure of bench-design."""

import argparse
import json
import math
import platform
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from experiments.provenance import cpu_model, software_facts
from experiments.storage import replace_text
from scaling.design_plots import figure_costs
from scaling.plot_style import save_png

# Share of the grid's FLOPs at which a design should have its interval.
GOAL = 0.5
LABELS = {"loss": "L*", "n_params_opt": "N*", "exponent": "a"}


def write(
    options: argparse.Namespace, rows: list[dict[str, Any]], trap: dict[str, Any], seconds: float
) -> None:
    """design.json, design.md and the figure under results/benchmarks."""
    record = {
        "command": "make bench-design",
        "seconds": round(seconds),
        "repetitions": options.repetitions,
        "device": cpu_model(),
        "host_python": platform.python_version(),
        **software_facts(),
        "rows": rows,
        "trap": trap,
    }
    folder = options.results / "benchmarks"
    replace_text(folder / "design.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    replace_text(folder / "design.md", _page(record))
    draw(rows, folder / "design.png")
    print((folder / "design.md").read_text())


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Interval width against FLOPs spent, of the rows that have it."""
    panels = {
        f"{row['problem']}: {LABELS[row['target']]}": {
            name: tuple(np.array(points).T) for name, points in row["figure"].items() if points
        }
        for row in rows
        if "figure" in row
    }
    if panels:
        note = "95 % intervals at 10 times the largest budget, medians; log units (a: as it is)."
        save_png(figure_costs(panels, sentences=[note]), path)


def _page(record: dict[str, Any]) -> str:
    rows = record["rows"]
    groups = {
        "Planted laws": [_line(r, r["spent"]) for r in rows if "spent_whole" not in r],
        "Public tables, against grids of five sizes per budget": [
            _line(r, r["spent"]) for r in rows if "spent_whole" in r
        ],
        "Public tables, against every run of the table": [
            _line(r | {"uniform_runs": r["whole_runs"]}, r["spent_whole"], is_whole=True)
            for r in rows
            if "spent_whole" in r
        ],
    }
    covers = [sum(r["covers"][i] for r in rows) for i in (0, 1)]
    grids = [sum(r["uniform_covers"][i] for r in rows) for i in (0, 1)]
    lines = [
        "# Sequential design against uniform isoFLOP grids",
        "",
        f"`{record['command']}`, {record['seconds']} s on one process ({record['device']}); "
        f"{record['repetitions']} repetitions per row.",
        "",
        "The design fits, chooses and trains in rounds until the 95 % interval of the target, at "
        "10 times the largest budget, is as narrow as the uniform grid's (median over "
        "repetitions). FLOPs: at that stop, over the grid's (median). Goal: 0.5 or less; **bold**: "
        "missed. Intervals are those of the surface that a goal is judged by; for a table it "
        "takes once, of all its runs. Random: width of the interval of as many FLOPs, chosen at "
        "random, over the grid's.",
        "",
        "Planted: half-decade budgets from 1e17 to 1e21, nine sizes within a factor 8 of the "
        "optimum, three seeds to choose from; the grid has a budget per decade, seven sizes, one "
        "seed. Of a table each run can be had once. The design saves FLOPs by many small runs: its "
        "number of runs stands beside the grid's.",
        "",
        "Where a pool is hardly larger than the grid there is little to leave out (misfitting: the "
        "grid is 70 of its 106 runs, 14 budgets with 6 to 9 sizes each). The repetitions of a "
        "table differ in seeds alone and lie far apart: a few runs decide.",
        "",
        *_coverage("at the stop of the designs", covers),
        *_coverage("of the uniform grids", grids),
        "",
        "![Interval width against FLOPs spent](design.png)",
    ]
    for title, group in groups.items():
        if group:
            met = sum(line[0] for line in group)
            lines += ["", f"## {title}", ""]
            lines += [f"{met} of {len(group)} rows at half of the FLOPs or less.", ""]
            lines += ["| problem | target | FLOPs | runs, grid's | width, random | covers | each |"]
            lines += ["|---|---|---|---|---|---|---|", *(text for _, text in group)]
    lines += ["", "## A design that trusts the additive form", "", *_trap(record["trap"])]
    return "\n".join(lines) + "\n"


def _coverage(what: str, count: list[int]) -> list[str]:
    held, n = count
    if not n:
        return []
    error = 100 * math.sqrt(0.95 * 0.05 / n)
    return [
        f"Intervals {what} hold the planted truth in {held} of {n}: {100 * held / n:.1f} % "
        f"(said: 95 %, standard error {error:.1f})."
    ]


def _line(
    row: dict[str, Any], spent: list[float | None], *, is_whole: bool = False
) -> tuple[bool, str]:
    """Whether the goal is met, and the row of the table."""
    ratio = statistics.median(math.inf if x is None else x for x in spent)
    met = ratio <= GOAL
    shown = f"{ratio:.2f}" if math.isfinite(ratio) else "not reached"
    held, n = row["covers"]
    random = "" if is_whole or row["random_width"] is None else f"{row['random_width']:.2f}"
    runs = f"{row['uniform_runs']}" if is_whole else f"{row['runs_at_stop']}, {row['uniform_runs']}"
    cells = (
        f"{row['problem']} ({row['note']})",
        LABELS[row["target"]],
        shown if met else f"**{shown}**",
        runs,
        random,
        f"{held} of {n}" if n else "",
        ", ".join("never" if x is None else f"{x:.2f}" for x in spent),
    )
    return met, f"| {' | '.join(cells)} |"


def _trap(trap: dict[str, Any]) -> list[str]:
    lines = [
        "Curved truth, target L*: how many intervals hold it when design and fit know the additive "
        "form only, and as `isoflop next` does it.",
        "",
        "| design and fit | uniform grid covers | design covers at its stop |",
        "|---|---|---|",
    ]
    for name, row in trap.items():
        cells = [f"{held} of {n}" for held, n in (row["uniform_covers"], row["covers"])]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines
