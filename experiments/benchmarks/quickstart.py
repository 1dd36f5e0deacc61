# SPDX-License-Identifier: Apache-2.0
"""make bench-quickstart: the quickstart again and again, with other seeds and on other texts.

Grid and recipe stay; repeat n has its seeds 1000 n further on. Writes quickstart_repeats.json and
.md below results/benchmarks/: per text how many repeats have every approach certified, every budget
resolved, and the forecast inside its interval, then one row per repeat, and the spread between
seeds at each point. What is trained already stays: stopped, the same command goes on. Repeats that
quickstart_repeats.json tells of are not trained again, wherever they were made: without that file
all begin anew.
"""

import argparse
import collections
import csv
import json
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from experiments.benchmarks.record import FOLDER, facts, made_by, run_study, write
from experiments.files import markdown
from experiments.ledger.ledger import Ledger
from experiments.studies.quickstart import STUDY
from model.data.source import PepsText, Source, StdlibText, TextFiles, Zipf
from model.training.config import EvalConfig
from scaling.approaches.isoflop.per_budget import fit_per_budget
from scaling.fit import FitError
from scaling.tables.read_tables import read_runs
from scaling.tables.units import power

APPROACHES = ("envelope", "isoflop", "additive", "curved")
NAME = "quickstart_repeats"
SEEDS_APART = 1000
# 16,384 facts, more than these networks can learn. Of 256 or 4,096 they learn all, and the best
# size is then the smallest of the grid or below. A record is six tokens, a window 21 records.
ZIPF = Zipf(alpha=0.5, epsilon=0.25, base=128, n_digits=2, n_answers=3, language_seed=0)
ZIPF_LENGTH = 126
# What says of a row where and by which code it was made.
MADE = ("device", "git_commit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    text = "peps, stdlib, zipf, or files of text, comma separated (peps)"
    parser.add_argument("--text", default="peps", metavar="NAME|FILES", help=text)
    parser.add_argument("--work", type=Path, default=Path("results/repeats"), help="of the runs")
    options = parser.parse_args()
    record = facts("make bench-quickstart")
    before = kept(FOLDER / f"{NAME}.json")
    for repeat in range(1, options.repeats + 1):
        if f"{asked(options.text)[0].kind}-{repeat}" not in before:
            ledger = train(options.text, repeat, options.work)
            print(json.dumps(told(ledger)), flush=True)
    record |= {"texts": gathered(options.work, before)}
    write(NAME, record, page(record))
    print(page(record))


def train(text: str, repeat: int, work: Path) -> Ledger:
    """One repeat, as a user would run it."""
    source, changes = asked(text)
    seeds = [[seed + SEEDS_APART * repeat for seed in own] for own in STUDY.seeds_per_budget]
    name = f"{source.kind}-{repeat}"
    file = work / f"{source.kind}.py"
    work.mkdir(parents=True, exist_ok=True)
    words = [
        "import dataclasses",
        "from experiments.studies.quickstart import STUDY",
        f"from model.data.source import {type(source).__name__}",
        "from model.training.config import EvalConfig",
        f"STUDY = dataclasses.replace(STUDY, data={source!r}, {changes})",
    ]
    file.write_text("\n".join(words) + "\n", encoding="utf-8")
    run_study(str(file), f"name={name}", f"seeds={json.dumps(seeds)}", results=work)
    return Ledger(work, name)


def asked(text: str) -> tuple[Source, str]:
    """The data, and what else of the study is another with them, as Python."""
    if text == "zipf":
        evaluation = EvalConfig(
            n_tokens=ZIPF_LENGTH * 512, curve_tokens=ZIPF_LENGTH * 64, n_points=6, seed=0
        )
        return ZIPF, f"seq_len={ZIPF_LENGTH}, evaluation={evaluation!r}"
    named: dict[str, type[PepsText] | type[StdlibText]] = {"peps": PepsText, "stdlib": StdlibText}
    if text in named:
        return named[text](validation_fraction=0.05), ""
    # The study file lies elsewhere, and its data would be looked for beside it.
    paths = tuple(os.path.abspath(path) for path in text.split(","))
    return TextFiles(paths=paths, validation_fraction=0.05), ""


def told(ledger: Ledger) -> dict[str, Any]:
    """What one repeat said."""
    answer = json.loads(ledger.answer.read_text(encoding="utf-8"))
    curved = ledger.fits / "curved.json"
    fitted = json.loads(curved.read_text())["parameters"] if curved.exists() else {}
    (forecast,) = answer["forecasts"] or [None]
    losses = collections.defaultdict(list)
    with ledger.table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["role"] == "grid" and row["status"] == "ok":
                losses[f"{row['budget']} {row['d_model']}"].append(float(row["loss_nats"]))
    return {
        "repeat": ledger.folder.name,
        "a": {name: found["a"] for name, found in answer["exponents"].items()},
        "certified": [n for n, found in answer["exponents"].items() if found["is_certified"]],
        "resolved": resolved(ledger.table),
        "E": fitted.get("E"),
        "forecast": None if forecast is None else _judged(forecast),
        "losses": dict(losses),
    }


def resolved(table: Path) -> list[float]:
    """Budgets whose parabola has a minimum by itself, without what the others know."""
    runs = read_runs(table, where=["role=grid"])
    try:
        return [one.budget for one in fit_per_budget(runs).optima if not one.reason]
    except FitError:  # Fewer than two have one.
        return []


def _judged(forecast: dict[str, Any]) -> dict[str, float | None]:
    """The forecast to judge, and what came out."""
    first = next(iter(forecast["by_law"].values()))
    return {**first, "came_out": forecast["came_out"]}


def kept(file: Path) -> dict[str, dict[str, Any]]:
    """By name what repeats said that an earlier record tells of, and who made them."""
    if not file.exists():
        return {}
    record = json.loads(file.read_text(encoding="utf-8"))
    made = {name: record[name] for name in MADE}
    return {row["repeat"]: made | row for rows in record["texts"].values() for row in rows}


def gathered(work: Path, before: Mapping[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """By text what every repeat said that has an answer, in order."""
    here = facts("make bench-quickstart")
    made = {name: here[name] for name in MADE}
    rows = dict(before)
    for path in work.glob("*-*/fits/answer.json"):
        name = path.parents[1].name
        rows[name] = made | told(Ledger(work, name))
    found = collections.defaultdict(list)
    for name in sorted(rows, key=lambda name: int(name.rpartition("-")[2])):
        found[name.rpartition("-")[0]].append(rows[name])
    return dict(sorted(found.items()))


def is_certified(row: dict[str, Any]) -> bool:
    return set(row["certified"]) >= set(APPROACHES)


def is_resolved(row: dict[str, Any]) -> bool:
    return len(row["resolved"]) == len(STUDY.budgets)


def is_inside(row: dict[str, Any]) -> bool:
    forecast = row["forecast"]
    known = forecast is not None and None not in forecast.values()
    return known and forecast["lower"] <= forecast["came_out"] <= forecast["upper"]


def page(record: dict[str, Any]) -> str:
    """quickstart_repeats.md."""
    lines = [
        "# The quickstart, repeated",
        "",
        f"{made_by(record)} Grid and recipe are the quickstart's; repeat n has its seeds "
        f"{SEEDS_APART} n further on, and all repeats are counted. In brackets 95 % intervals of "
        "a share (Clopper and Pearson 1934). Forecast: the loss of the run at "
        f"{power(STUDY.forecast_budgets[0])} FLOPs. Approach 2 fits all budgets together; "
        "beside it stands at how many a parabola by itself has a minimum. The envelope is "
        "certified where four sizes lie on it. Where E of the curved "
        "form is 0.00 the law without it is certified. Answers and forecasts are those that the "
        "code of a row's commit makes of the grid's runs, in which a forecast's run has no part.",
        "",
    ]
    heads = (
        "text",
        "repeats",
        "all approaches certified",
        "each parabola resolved by itself",
        "forecast inside",
    )
    texts = record["texts"] | {"all": [row for found in record["texts"].values() for row in found]}
    rows = [
        [kind, len(found), *(_share([test(row) for row in found]) for test in
                             (is_certified, is_resolved, is_inside))]
        for kind, found in texts.items()
    ]  # fmt: skip
    lines += markdown.table(heads, rows)
    for kind, found in record["texts"].items():
        lines += ["", f"## {kind}", "", *_repeats(found), "", *_spread(found)]
    return "\n".join(lines) + "\n"


def _repeats(found: Sequence[dict[str, Any]]) -> list[str]:
    heads = (
        "repeat",
        *(f"a, {name}" for name in APPROACHES),
        "not certified",
        "E, curved",
        "parabolas resolved",
        "forecast",
        "made on, by",
    )
    return markdown.table(heads, [_row(row) for row in found])


def _row(row: dict[str, Any]) -> list[str]:
    forecast = row["forecast"]
    said = "none"
    if forecast is not None:
        numbers = ("unknown" if forecast[name] is None else f"{forecast[name]:.3f}"
                   for name in ("value", "lower", "upper", "came_out"))  # fmt: skip
        said = "{} ({} to {}), came out {}".format(*numbers)
    exponents = [f"{row['a'][name]:.3f}" if name in row["a"] else "" for name in APPROACHES]
    lacking = ", ".join(name for name in APPROACHES if name not in row["certified"])
    n_resolved = f"{len(row['resolved'])} of {len(STUDY.budgets)}"
    floor = "" if row["E"] is None else f"{row['E']:.2f}"
    made = f"{row['device']}, {row['git_commit'][:7]}"
    return [row["repeat"].rpartition("-")[2], *exponents, lacking, floor, n_resolved, said, made]


def _spread(found: Sequence[dict[str, Any]]) -> list[str]:
    """Standard deviation between all seeds of all repeats, at each point."""
    points: dict[str, list[float]] = collections.defaultdict(list)
    for row in found:
        for point, losses in row["losses"].items():
            points[point] += losses
    rows = []
    for point, losses in sorted(points.items(), key=lambda item: [*map(float, item[0].split())]):
        budget, d_model = point.split()
        sd = statistics.stdev(losses) if len(losses) > 1 else math.nan
        rows.append([power(float(budget)), d_model, len(losses), f"{sd:.4f}"])
    return markdown.table(("FLOPs", "d_model", "runs", "standard deviation, nats"), rows)


def _share(successes: Sequence[bool]) -> str:
    interval = binomtest(sum(successes), len(successes)).proportion_ci()
    return f"{sum(successes)} ({interval.low:.0%} to {interval.high:.0%})"


if __name__ == "__main__":
    main()
