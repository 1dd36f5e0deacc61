# SPDX-License-Identifier: Apache-2.0
"""Published numbers computed again, beside ours, with the figure redrawn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from experiments.terminal.table import duration, plain_table

if TYPE_CHECKING:
    from scaling.published.case import Case, Comparison


def reproduce(cases: Sequence[Case], results: Path, console: Console) -> bool:
    """Prints each case's table and findings; whether every checked number is met."""
    began, failures = time.monotonic(), {}
    for i, case in enumerate(cases, 1):
        elapsed = duration(time.monotonic() - began)
        console.print(f"[{i} of {len(cases)}, {elapsed}] {case.name}: {case.title} ({case.paper})")
        failures[case.name] = _show(case, results, console)
    _summary(failures, time.monotonic() - began, console)
    return not any(failures.values())


def list_cases(cases: Sequence[Case], console: Console) -> None:
    for case in cases:
        console.print(f"{case.name:16s} {case.title} ({case.paper})")
    console.print("isoflop reproduce NAME ... computes them again; --all all of them.")


def _show(case: Case, results: Path, console: Console) -> int:
    """How many numbers of the case are not met, after printing it and saving its figure."""
    from scaling.plots.style import save_png
    from scaling.published.case import TABLES

    found = case.run(TABLES)
    console.print(table_of(found.comparisons))
    for note in dict.fromkeys(c.note for c in found.comparisons if c.note):
        marked = [c.what for c in found.comparisons if c.note == note]
        more = f" and {len(marked) - 1} more" if len(marked) > 1 else ""
        console.print(f"note on {marked[0]}{more}: {note}.")
    for sentence in found.findings:
        console.print(f"- {sentence}")
    path = results / "published" / "figures" / f"{case.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(found.figure, path)
    console.print(f"figure {path}\n")
    return sum(not c.holds for c in found.comparisons)


def table_of(comparisons: Sequence[Comparison]) -> Table:
    """What, reference, kind, ours, difference, holds: one line per number."""
    table = plain_table("what", no_wrap=True)
    for name in ("reference", "kind", "ours", "difference", "holds"):
        table.add_column(name, justify="right", no_wrap=True)
    for c in comparisons:
        judged = c.kind != "published"
        verdict = ("yes" if c.holds else "NO") if judged else "shown"
        numbers = (f"{c.reference:.10g}", c.kind, f"{c.ours:.10g}", f"{c.difference:+.2g}")
        table.add_row(c.what, *numbers, verdict)
    return table


def _summary(failures: dict[str, int], seconds: float, console: Console) -> None:
    missed = {name: n for name, n in failures.items() if n}
    text = ", ".join(f"{name} ({n})" for name, n in missed.items()) or "none"
    console.print(
        f"{len(failures)} cases in {duration(seconds)}; checked numbers not met: {text}."
    )  # fmt: skip
