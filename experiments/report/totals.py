# SPDX-License-Identifier: Apache-2.0
"""What the runs of a study took together, and on what: sums over their records."""

import statistics
from collections import Counter
from collections.abc import Sequence

from experiments.ledger.result import Costs, Result, Trunk
from experiments.ledger.tables import flat, printable
from experiments.plan.point import Point
from experiments.report.build import Report
from experiments.terminal.table import duration
from scaling.tables.units import power

# Of every run another one: nothing that a reader of the page would compare.
_OF_ONE_RUN = ("job_id", "resumed_at_steps", "trunk")


def provenance(records: Sequence[Result | Trunk]) -> list[tuple[str, str]]:
    """Versions, hardware and flags; where runs differ, every value with its count."""
    found = [flat(record.provenance) for record in records]
    rows = []
    for name in found[0] if found else ():
        if name in _OF_ONE_RUN:
            continue
        cells = (one[name] for one in found)
        counts = Counter("" if cell is None else printable(str(cell)) for cell in cells)
        values = [f"{value} ({n} runs)" for value, n in counts.most_common()]
        rows.append((name, next(iter(counts)) if len(counts) == 1 else ", ".join(values)))
    return rows


def totals(points: Sequence[Point], report: Report) -> list[tuple[str, str]]:
    """Runs, FLOPs, tokens, time, utilisation and energy."""
    results = report.results
    finished = [point for point in points if point.id in results]
    costs = [record.costs for record in report.records]
    rows = [("runs finished", f"{len(finished)} of {len(points)}")]
    for convention in finished[0].flops if finished else ():
        flops = sum(point.flops[convention] for point in finished)
        spent = sum(record.flops_spent[convention] for record in report.records)
        less = f", {power(spent, 4)} spent" if 0 < spent < 0.999 * flops else ""
        rows.append((f"FLOPs ({convention})", f"{power(flops, 4)}{less}"))
    return [
        *rows,
        ("tokens", f"{sum(point.n_tokens for point in finished):,}"),
        ("worker time, last attempts", duration(sum(cost.wall_seconds for cost in costs))),
        ("of this compiling", duration(sum(cost.compile_seconds for cost in costs))),
        ("of this training", duration(sum(cost.train_seconds for cost in costs))),
        ("of this waiting for data", f"{sum(cost.stall_seconds for cost in costs):.1f} s"),
        *utilisation(costs),
        *energy(costs),
    ]


def utilisation(costs: Sequence[Costs]) -> list[tuple[str, str]]:
    """Median share of the peak that the runs reached, with the range."""
    rows = []
    for convention, shares in (
        ("matmul_full", [cost.mfu_matmul_full for cost in costs]),
        ("matmul_causal", [cost.mfu_matmul_causal for cost in costs]),
    ):
        known = sorted(share for share in shares if share)
        if known:
            text = f"{statistics.median(known):.1%} ({known[0]:.1%} to {known[-1]:.1%})"
            rows.append((f"MFU ({convention}), median", text))
    return rows


def energy(costs: Sequence[Costs]) -> list[tuple[str, str]]:
    """Watt hours by where they come from: what was measured is not added to what was not."""
    joules: dict[str, float] = {}
    for cost in costs:
        if cost.joules is not None:
            joules[cost.joules_source] = joules.get(cost.joules_source, 0.0) + cost.joules
    return [
        (f"energy, {printable(source)}", f"{sum_ / 3600:.2f} Wh") for source, sum_ in joules.items()
    ]
