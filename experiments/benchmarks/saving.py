# SPDX-License-Identifier: Apache-2.0
"""make bench-saving: what --until and trunks save on one study, and whether the answers are equal.

One study is run three times from nothing: its whole grid, every run by itself; runs chosen until N*
beyond the grid is as well known as from the whole grid; the same on shared trunks. Fifteen minutes
on two cores. Writes results/benchmarks/saving.json and .md.
"""

import argparse
import csv
import math
import shutil
import time
from pathlib import Path
from typing import Any

from experiments.benchmarks.record import facts, made_by, run_study, write
from experiments.cli.opening.load_study import load_study
from experiments.files import markdown
from experiments.ledger.ledger import Ledger
from experiments.machine.jax_setup import prepare_to_fit

# Stated before any run: below these the answers of two ways count as equal.
MARGINS = {"loss_nats": 0.01, "log_n_params": 0.10}
TARGET_FACTOR = 10.0  # Budget of the extrapolated answer, over the largest of the grid.
LAWS = ("additive", "curved")
ALONE = "alone"
UNTIL = (
    *("--until", "ci(n_params_opt) < {goal:.6g} %", "--target-flops", "{target:.6g}"),
    *("--per", "device-second"),
)
# Name -> overrides and options of `isoflop run`.
WAYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    ALONE: (("trunks=false",), ()),
    "until": (("trunks=false",), UNTIL),
    "trunks and until": ((), UNTIL),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="trunks", help="name or file; with trunks=True")
    parser.add_argument("--work", type=Path, default=Path("results/saving"), help="of the runs")
    options = parser.parse_args()
    ways: dict[str, Any] = {}
    for name in WAYS:
        ways[name] = run(options.study, name, options.work, ways)
        record = facts("make bench-saving") | {
            "study": options.study,
            "margins": MARGINS,
            "target_factor": TARGET_FACTOR,
            "ways": ways,
        }
        write("saving", record, page(record))
    print(page(record))


def run(study: str, name: str, work: Path, before: dict[str, Any]) -> dict[str, Any]:
    """One study one way, from nothing; what it cost and what it answers."""
    overrides, options = WAYS[name]
    asked = load_study(study)
    target = TARGET_FACTOR * asked.budgets[-1]
    goal = 100 * before[ALONE]["goal_width"] if options else 0.0
    results = work / name.replace(" ", "-")
    shutil.rmtree(results / asked.name, ignore_errors=True)
    words = [word.format(goal=goal, target=target) for word in options]
    began = time.perf_counter()
    run_study(study, *overrides, *words, results=results)
    seconds = time.perf_counter() - began
    return {"wall_seconds": round(seconds, 1), **outcome(Ledger(results, asked.name), target)}


def outcome(ledger: Ledger, target: float) -> dict[str, Any]:
    """Costs and answers of a finished study; `target` is a budget beyond its grid."""
    prepare_to_fit()
    from scaling.answers.frontier import frontier
    from scaling.answers.goal import judge, target_estimate
    from scaling.approaches.surface.fit import fit_surface
    from scaling.tables.read_tables import read_runs

    points = [point for point in ledger.read_plan() if point.role == "grid"]
    convention = points[0].convention
    with ledger.costs.open(newline="") as file:
        costs = list(csv.DictReader(file))

    def total(name: str) -> float:
        return sum(float(row[name] or 0) for row in costs)

    runs = read_runs(ledger.table, flops=convention, params="total")
    fits = {law: fit_surface(runs, law) for law in LAWS}
    judging = judge(list(fits.values()), "n_params_opt")  # As `isoflop run --until` judges.
    found = target_estimate(judging, "n_params_opt", target)
    estimate, ends = found.value, found.interval

    def answer(law: str, budget: float) -> dict[str, dict[str, float]]:
        front = frontier(fits[law], budget)
        bands = {"n_params_opt": front.n_params_opt, "loss": front.loss_opt}
        return {
            name: {end: float(getattr(band, end)[0]) for end in ("value", "lower", "upper")}
            for name, band in bands.items()
        }

    return {
        "runs": len(points),
        "flops_spent": total(f"flops_spent_{convention}"),
        # Compilation depends on what the cache has seen before.
        "device_seconds": round(total("device_seconds") - total("compile_seconds"), 1),
        "goal_width": (ends.upper - ends.lower) / estimate,
        "law": judging.law,
        "answers": {
            law: {
                "status": fit.status.name,
                "top": answer(law, target / TARGET_FACTOR),
                "target": answer(law, target),
            }
            for law, fit in fits.items()
        },
    }


def page(record: dict[str, Any]) -> str:
    """saving.md: a row per way, by the law that judged the runs trained alone."""
    margins, ways = record["margins"], record["ways"]
    base = ways[ALONE]
    lines = [
        "# What `--until` saves on one study",
        "",
        f"{made_by(record)} Study `{record['study']}`.",
        "",
        "*alone*: the whole grid, every run by itself. *until*: runs chosen by what they tell per "
        f"device-second until N* at {record['target_factor']:g} times the largest budget is as "
        "well known as from *alone*. *trunks and until*: the same, and runs of one size and seed "
        "are branches of one trunk. Device-seconds: training, evaluation and checkpoints of all "
        "attempts, without compilation. Intervals: 95 %, by the "
        f"{base['law']} surface. Answers are equal where at the largest budget L* differs by less "
        f"than {margins['loss_nats']:g} nats and ln N* by less than {margins['log_n_params']:g}, "
        "margins that were stated before any run. This is one set of seeds; "
        "[another page](notes/saving_again.md) has eight.",
        "",
    ]
    heads = ("way", "runs", "FLOPs", "device-seconds", "fewer by", "N*", "L*, nats")
    rows = []
    for name, way in ways.items():
        found = way["answers"][base["law"]]
        cells = [
            name + ("" if found["status"] == "CONVERGED" else f" ({found['status']})"),
            way["runs"],
            f"{way['flops_spent']:.3g}",
            f"{way['device_seconds']:.0f}",
            f"{base['device_seconds'] / way['device_seconds']:.2f}x",
            _band(found["top"]["n_params_opt"], ",.0f"),
            _band(found["top"]["loss"], ".4f"),
            _band(found["target"]["n_params_opt"], ",.0f"),
            "" if way is base else _equal(found, base["answers"][base["law"]], margins),
        ]
        rows.append(cells)
    return "\n".join([*lines, *markdown.table((*heads, "N* at the target", "equal"), rows), ""])


def _band(band: dict[str, float], form: str) -> str:
    return f"{band['value']:{form}} ({band['lower']:{form}} to {band['upper']:{form}})"


def _equal(ours: dict[str, Any], theirs: dict[str, Any], margins: dict[str, float]) -> str:
    loss = abs(ours["top"]["loss"]["value"] - theirs["top"]["loss"]["value"])
    n_params = [one["top"]["n_params_opt"]["value"] for one in (ours, theirs)]
    size = abs(math.log(n_params[0] / n_params[1]))
    is_equal = loss < margins["loss_nats"] and size < margins["log_n_params"]
    return f"{'yes' if is_equal else 'NO'} ({loss:.4f} nats, {size:.3f})"


if __name__ == "__main__":
    main()
