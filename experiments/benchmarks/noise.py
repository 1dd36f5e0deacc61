# SPDX-License-Identifier: Apache-2.0
"""make bench-noise: where the spread of the final loss between seeds comes from.

Some widths of a study's lowest budgets are trained with every pair of three initial and three data
seeds, once with its recipe and once with each change of VARIANTS. Writes noise.json and noise.md in
results/benchmarks.
"""

import argparse
import collections
import csv
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.record import facts, made_by, run_study, write
from experiments.cli.opening.load_study import load_study
from experiments.files import markdown
from experiments.ledger.ledger import Ledger
from scaling.uncertainty.seed_components import seed_components

AS_IT_IS = "as it is"
SEEDS = (0, 1, 2)
# Name -> what is changed in the recipe.
VARIANTS: dict[str, tuple[str, ...]] = {
    AS_IT_IS: (),
    "half the rate": ("recipe.optimizer.learning_rate=0.5",),
    "twice the batch": ("recipe.batch.reference_tokens=1024",),
    "no clipping": ("recipe.optimizer.clip_norm=1e6",),
    "no QK-norm": ("recipe.shape.blocks.0.mixer.use_qk_norm=false",),
    "dense, with AdamW": ("recipe=dense",),
    "tiny-bytes": ("recipe=tiny-bytes",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="quickstart", help="name or file")
    parser.add_argument("--budgets", type=int, default=1, help="the lowest so many (1)")
    parser.add_argument("--widths", default="16,24,32", help="d_model (16,24,32)")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--work", type=Path, default=Path("results/noise"), help="of the runs")
    options = parser.parse_args()
    budgets = load_study(options.study).budgets[: options.budgets]
    record = facts("make bench-noise") | {"study": options.study, "budgets": budgets, "points": {}}
    for n, name in enumerate(VARIANTS):
        if name in options.only:
            ledger = Ledger(options.work, f"variant-{n}")
            sizes = (f"sizes.d_models={options.widths}", "sizes.tokens_per_param=1e-3,1e6")
            train(options.study, ledger, budgets, (*sizes, *VARIANTS[name]))
            record["points"][name] = points(ledger.table.read_text())
            write("noise", record, page(record))
    print(page(record))


def train(study: str, ledger: Ledger, budgets: tuple[float, ...], changes: tuple[str, ...]) -> None:
    """Every point with every pair of seeds; what is trained already stays."""
    seeds = ",".join(map(str, SEEDS))
    asked = [f"name={ledger.folder.name}", f"seeds={seeds}", f"data_seeds={seeds}"]
    asked += [f"budgets={','.join(map(repr, budgets))}", "forecast_budgets=[]"]
    pack = str(len(SEEDS) ** 2)  # The runs of a point: compiled once.
    # Few sizes: no law is asked for.
    options = ("--pack", pack, "--allow-missing", "1", "--anyway")
    run_study(study, *asked, *changes, *options, results=ledger.results, is_told=True)


def points(table: str) -> list[dict[str, Any]]:
    """Of each budget and size of a table.csv: losses by initial seed and data seed."""
    found: dict[tuple[float, int], dict[tuple[int, int], float]] = collections.defaultdict(dict)
    for row in csv.DictReader(table.splitlines()):
        pair = int(row["seed"]), int(row["data_seed"])
        found[float(row["budget"]), int(row["d_model"])][pair] = float(row["loss_nats"] or math.nan)
    return [
        {
            "budget": budget,
            "d_model": d_model,
            "losses": [[losses.get((i, d), math.nan) for d in SEEDS] for i in SEEDS],
        }
        for (budget, d_model), losses in sorted(found.items())
    ]


def page(record: dict[str, Any]) -> str:
    """noise.md: a row per variant, then one per point of the recipe as it is."""
    variants = record["points"]
    base = {_key(point): np.mean(point["losses"]) for point in variants.get(AS_IT_IS, ())}
    budgets = ", ".join(f"{budget:.3g}" for budget in record["budgets"])
    lines = [
        "# The spread of the final loss between seeds",
        "",
        f"{made_by(record)} Study `{record['study']}` at {budgets} FLOPs, each point with every "
        f"pair of {len(SEEDS)} initial and {len(SEEDS)} data seeds. Spread: root mean square over "
        "points of the standard deviation between runs, in nats; it is the sum, of variances, of "
        "what the initialisation does, what the order of the data does, and the rest. Loss: mean "
        "over the points that the recipe as it is has, too.",
        "",
    ]
    heads = ("recipe", "spread", "initialisation", "data order", "the rest", "worst point", "loss")
    rows = [[name, *_spread(points), _shift(points, base)] for name, points in variants.items()]
    lines += [*markdown.table(heads, rows), ""]
    if AS_IT_IS in variants:
        rows = [
            [f"{p['budget']:.3g}", p["d_model"], f"{np.mean(p['losses']):.4f}", *_spread([p])[:4]]
            for p in variants[AS_IT_IS]
        ]
        heads = ("FLOPs", "d_model", "loss", "spread", "initialisation", "data order", "the rest")
        lines += [*markdown.table(heads, rows), ""]
    return "\n".join(lines)


def _key(point: dict[str, Any]) -> tuple[float, int]:
    return point["budget"], point["d_model"]


def _spread(points: list[dict[str, Any]]) -> list[str]:
    """In total, by cause, and at the worst point."""
    tables = [np.array(point["losses"]) for point in points]
    found = seed_components(tables)
    causes = (found.init_sd, found.data_sd, found.rest_sd)
    worst = max(float(np.std(table, ddof=1)) for table in tables)
    return [f"{sd:.4f}" for sd in (math.hypot(*causes), *causes, worst)]


def _shift(points: list[dict[str, Any]], base: dict[tuple[float, int], float]) -> str:
    shifts = [np.mean(p["losses"]) - base[_key(p)] for p in points if _key(p) in base]
    return f"{statistics.fmean(shifts):+.4f}" if shifts else ""


if __name__ == "__main__":
    main()
