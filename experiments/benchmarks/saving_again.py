# SPDX-License-Identifier: Apache-2.0
"""make bench-saving-again: the ways of make bench-saving that choose their runs, with other seeds.

One study with one set of seeds shows one draw of the noise, and what it showed has shaped the
protocol. Here the protocol is fixed and the seeds are new. Needs results/benchmarks/saving.json;
writes saving_again.json, .md, .svg and saving_again_evidence.svg (figures also as .png) beside it.
What saving_again.json holds already is not run again: delete it to begin anew. All runs are in
saving_again_STUDY.csv.
"""

import argparse
import csv
import io
import itertools
import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.benchmarks.saving import STUDIES, WAYS, outcome, run
from experiments.benchmarks.saving_again_page import (
    BEFORE,
    CHOSEN,
    FIRST,
    N_SETS,
    draw,
    draw_evidence,
    page,
)
from experiments.benchmarks.saving_half import half_time
from experiments.benchmarks.saving_page import BASE, LAWS
from experiments.benchmarks.saving_worth import sd_log_n_opt, world
from experiments.cli import load_study
from experiments.fitting import prepare_to_fit
from experiments.ledger import Ledger
from experiments.next_runs import NEW_SEEDS
from experiments.provenance import cpu_model, n_cores, software_facts
from experiments.storage import replace_text

N_SEEDS = 3
LEAST_REPEATS = 8  # Of a configuration whose mean and scatter stand for the true ones.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="train nothing: write the page again")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--work", type=Path, default=Path("results/saving_again"), help="of runs")
    options = parser.parse_args()
    folder = options.results / "benchmarks"
    path = folder / "saving_again.json"
    goes_on = path.exists()
    record = begin(folder)
    ways = [way for way in WAYS if way.name in (BASE, *CHOSEN)]
    for study, seeds in () if options.page else itertools.product(STUDIES, _sets()):
        work = options.work / seeds.replace(",", "-")
        found = record["sets"][study].setdefault(seeds, {})
        for way in (replace(w, overrides=(*w.overrides, f"seeds={seeds}")) for w in ways):
            if way.name in found:
                continue
            print(f"{study}, seeds {seeds}, {way.name} ...", flush=True)
            # Programs do not depend on seeds.
            is_first = (way.name, seeds) == (BASE, _sets()[0])
            run(study, way, work, found.get(BASE), fills_cache=is_first)
            found[way.name] = outcome(study, way, work)
            replace_text(path, json.dumps(record, indent=1) + "\n")
    for study in STUDIES:
        known = folder / f"saving_again_{study}.csv"
        tables = [*options.work.glob(f"*/*/{study}/table.csv"), *([known] if goes_on else [])]
        if rows := pooled(tables):
            text = io.StringIO()
            table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
            replace_text(known, text.getvalue())
            record.setdefault("noise", {})[study] = noise_by_size(rows)
            record.setdefault("in_common", {})[study] = correlation_by_ratio(rows)
            record.setdefault("worth", {})[study] = worth(study, options.work, known, record)
            record.setdefault("half", {})[study] = half(study, options.work, record)
            replace_text(path, json.dumps(record, indent=1) + "\n")
    replace_text(folder / "saving_again.md", page(record))
    draw(record, folder)
    draw_evidence(record, folder)
    print((folder / "saving_again.md").read_text())


def begin(folder: Path) -> dict[str, Any]:
    """The record so far, with what make bench-saving found, shown beside the rest and counted
    nowhere."""
    first = json.loads((folder / "saving.json").read_text())
    path = folder / "saving_again.json"
    record = {
        "command": "make bench-saving-again",
        "device": cpu_model(),
        "cores": n_cores(),
        "margins": first["margins"],
        **software_facts(),
        "sets": {study: {} for study in STUDIES},
    }
    if path.exists():
        record = json.loads(path.read_text())
    for study in STUDIES:
        record["sets"][study][FIRST] = _of(study, first["ways"])
    return record


def _of(study: str, ways: dict[str, Any]) -> dict[str, Any]:
    """By name, the ways in which a study was run."""
    return {way.name: ways[key] for way in WAYS if (key := f"{study}:{way.name}") in ways}


def pooled(tables: Iterable[Path]) -> list[dict[str, str]]:
    """The rows of all tables, each run once, by run_id.

    Raises:
      ValueError: if a run is in two tables with different rows: its bits must not depend on how it
        was trained.
    """
    rows: dict[str, dict[str, str]] = {}
    for path in sorted(tables):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if rows.setdefault(row["run_id"], row) != row:
                    raise ValueError(f"{path}: run {row['run_id']} differs from another table's")
    return [rows[name] for name in sorted(rows)]


def worth(study: str, work: Path, table: Path, record: dict[str, Any]) -> dict[str, Any]:
    """By set and way, what its runs tell of ln N* at the target (`saving_worth.sd_log_n_opt`).

    Args:
      table: of all runs.
    """
    prepare_to_fit()
    from scaling.runs import read_runs

    found = record.get("worth", {}).get(study, {})
    sets = record["sets"][study]
    base = sets[FIRST][BASE]
    convention = load_study(study).flops

    def read(path: Path) -> Any:
        return read_runs(path, flops=convention, params="total")

    noise = record["noise"][study]
    known = world(read(table), base["forecaster"], noise, base["target_flops"])
    for seeds, ways in sets.items():
        for name in ways:
            path = work / seeds.replace(",", "-") / name.replace(" ", "-") / study / "table.csv"
            if path.exists():
                found.setdefault(seeds, {})[name] = sd_log_n_opt(known, read(path))
    return found


def half(study: str, work: Path, record: dict[str, Any]) -> dict[str, Any]:
    """By set and way, what its runs had answered by half of the time (`saving_half.half_time`)."""
    found = record.get("half", {}).get(study, {})
    for seeds, ways in record["sets"][study].items():
        for name in CHOSEN:
            ledger = Ledger(work / seeds.replace(",", "-") / name.replace(" ", "-"), study)
            if {BASE, name} <= set(ways) and ledger.table.exists():
                found.setdefault(seeds, {})[name] = half_time(ledger, ways[BASE], LAWS)
    return found


def noise_by_size(rows: list[dict[str, str]]) -> list[list[float]]:
    """Size, sd of log loss among runs that differ in their seed only, and degrees of freedom."""
    configurations = _repeats(rows)
    found = []
    for n_params in sorted({n_params for n_params, _ in configurations}):
        repeats = [list(runs.values()) for (n, _), runs in configurations.items() if n == n_params]
        if not (dof := sum(len(values) - 1 for values in repeats)):
            continue
        squares = sum((len(v) - 1) * statistics.variance(v) for v in repeats if len(v) > 1)
        found.append([n_params, math.sqrt(squares / dof), dof])
    return found


def correlation_by_ratio(rows: list[dict[str, str]]) -> list[list[float]]:
    """Ratio of tokens, to half an octave; correlation of log loss between two runs of one size and
    seed that are so far apart, over seeds; and how many pairs of runs tell it."""
    scores: dict[tuple[int, int], dict[str, float]] = {}
    for key, runs in _repeats(rows).items():
        if len(runs) >= LEAST_REPEATS:
            mean, sd = statistics.mean(runs.values()), statistics.stdev(runs.values())
            scores[key] = {cluster: (value - mean) / sd for cluster, value in runs.items()}
    products: dict[float, list[float]] = {}
    for (one, two), (first, second) in zip(
        itertools.combinations(scores, 2), itertools.combinations(scores.values(), 2), strict=True
    ):
        if one[0] == two[0]:
            ratio = 2 ** (round(2 * abs(math.log2(one[1] / two[1]))) / 2)
            both = set(first) & set(second)
            products.setdefault(ratio, []).extend(first[c] * second[c] for c in sorted(both))
    return [[r, statistics.mean(v), len(v)] for r, v in sorted(products.items()) if v]


def _repeats(rows: list[dict[str, str]]) -> dict[tuple[int, int], dict[str, float]]:
    """Log loss by (N, D) and cluster, of runs that are ok."""
    found: dict[tuple[int, int], dict[str, float]] = {}
    for row in (row for row in rows if row["status"] == "ok"):
        key = (int(row["n_params"]), int(row["n_tokens"]))
        found.setdefault(key, {})[row["cluster_id"]] = math.log(float(row["loss_nats"]))
    return found


def _sets() -> list[str]:
    """Apart from one another, from those that have shaped the protocol, and from seeds that may
    be chosen beside a study's own."""
    step = N_SEEDS + NEW_SEEDS
    firsts = [step * (n + 2 + len(BEFORE)) for n in range(N_SETS)]
    return [",".join(str(first + i) for i in range(N_SEEDS)) for first in firsts]


if __name__ == "__main__":
    main()
