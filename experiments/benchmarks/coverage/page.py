# SPDX-License-Identifier: Apache-2.0
"""The coverage table: percentages with their standard errors, and which cells miss."""

import math
from collections import Counter
from typing import Any

from experiments.benchmarks.coverage.counts import LEVELS
from experiments.benchmarks.coverage.studies import STUDIES
from experiments.files import markdown

# Points by which a cell may differ from its level, beyond two of its own standard errors.
ALLOWED = 2.0


def page(counts: Counter[Any], about: str) -> str:
    """coverage.md.

    Args:
      about: what was run, where and when, in a line.
    """
    rows = _rows(counts)
    lines = [
        "# Coverage of intervals on simulated studies",
        "",
        about,
        "",
        "Percentage of simulations whose interval holds the truth, among those with an answer. "
        f"**Bold**: off by more than {ALLOWED:g} points beyond two standard errors. The default is "
        "residual for both estimators on grids like these, and components where the runs of one "
        "size and seed are branches of one trunk; residual takes those for independent. Approach 2 "
        "cannot cover the truth where it is biased: its pseudo-truth is what it answers to "
        "noise-free losses of the same grid.",
        "",
        *_summary(rows),
    ]
    for study in dict.fromkeys(row["study"] for row in rows):
        lines += ["", f"## {study}", "", *_table([row for row in rows if row["study"] == study])]
    return "\n".join(lines) + "\n"


def _rows(counts: Counter[Any]) -> list[dict[str, Any]]:
    """One row per (study, estimator, method, quantity, target)."""
    rows = []
    for key in dict.fromkeys(key[:-1] for key in counts):
        n = counts[(*key, "simulations")]
        names = ("study", "estimator", "method", "quantity", "target")
        row: dict[str, Any] = dict(zip(names, key, strict=True))
        row |= {"simulations": n, "answered": counts[(*key, "answers")] / n}
        answers = max(counts[(*key, "answers")], 1)
        for level in LEVELS:
            share = counts[(*key, level)] / answers
            se = 100 * math.sqrt(level * (1 - level) / answers)
            row[f"{100 * level:.0f}"] = {
                "coverage": 100 * share,
                "se": se,
                "misses": bool(counts[(*key, "answers")])
                and abs(100 * share - 100 * level) > ALLOWED + 2 * se,
            }
        rows.append(row)
    return rows


def _summary(rows: list[dict[str, Any]]) -> list[str]:
    """Per kind of runs and method: how many cells (study, quantity, level) are met, the worst."""
    worst = ("too narrow at worst", "too wide at worst")
    heads = ("runs", "estimator", "method", "target", "cells met", *worst)
    lines = []
    kinds = {study.name: study.kind for study in STUDIES}
    groups: dict[tuple[str, str, str, str], list[tuple[dict[str, Any], str, str, float]]] = {}
    for row in rows:
        key = (kinds[row["study"]], row["estimator"], row["method"], row["target"])
        if row["answered"] > 0:
            groups.setdefault(key, []).extend(
                (row[f"{100 * level:.0f}"], row["study"], row["quantity"], level)
                for level in LEVELS
            )
    order = list(dict.fromkeys(kinds.values()))
    for key, cells in sorted(groups.items(), key=lambda group: order.index(group[0][0])):
        met = sum(not cell["misses"] for cell, *_ in cells)
        low = min(cells, key=lambda c: c[0]["coverage"] - 100 * c[3])
        high = max(cells, key=lambda c: c[0]["coverage"] - 100 * c[3])
        ends = [
            f"{cell['coverage']:.1f} for {100 * level:.0f} % ({study}, {quantity})"
            for cell, study, quantity, level in (low, high)
        ]
        lines.append((*key, f"{met} of {len(cells)}", *ends))
    return markdown.table(heads, lines)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    levels = [f"{100 * level:.0f}" for level in LEVELS]
    errors = ", ".join(f"{rows[0][level]['se']:.1f} at {level} %" for level in levels)
    lines = []
    for row in rows:
        is_known = row["answered"] > 0
        cells = [f"{row[level]['coverage']:.1f}" if is_known else "none" for level in levels]
        cells = [
            f"**{cell}**" if row[level]["misses"] else cell
            for cell, level in zip(cells, levels, strict=True)
        ]
        names = (row["estimator"], row["method"], row["target"], row["quantity"])
        lines.append((*names, *cells, f"{100 * row['answered']:.0f} %"))
    heads = ("estimator", "method", "target", "quantity", *levels, "answered")
    said = f"{rows[0]['simulations']} simulations; standard errors {errors}."
    return [said, "", *markdown.table(heads, lines)]
