# SPDX-License-Identifier: Apache-2.0
"""make bench-forecast: small studies that forecast 3 and 10 times beyond their grids, all counted.

STUDIES stands in this file before the first of them is run: text and languages, recipes, lengths
and seeds. Each is run as a user would: the grid, the forecasts, the runs that they speak of. What
is trained stays; stopped, the same command goes on. Writes results/benchmarks/forecasts.*.

Studies 1 to 24 were forecast by the bootstrap alone (results/benchmarks/forecasts_bootstrap.md),
and led to intervals that are widened by what the budgets say that are left out. These are others:
seeds, languages, and half of the texts.
"""

import argparse
import csv
import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from experiments.benchmarks.forecasts_page import page
from experiments.benchmarks.record import FOLDER, facts, run_study, write
from experiments.ledger.forecasts import Forecast
from experiments.ledger.ledger import Ledger
from experiments.recipes.named import recipe_named
from experiments.report.scoreboard import Scored, calibrated, scores
from experiments.study.study import Ladder, Study
from model.data.source import PepsText, Source, StdlibText, Zipf
from model.training.config import EvalConfig
from model.training.outcome import CurvePoint
from scaling.answers.calibration import coverage

BUDGETS, FACTORS = (3e9, 1e10, 3e10), (3.0, 10.0)
RECIPES = ("dense-muon", "tiny-bytes")
WINDOWS = 512  # To validate on.
LENGTHS, ALPHAS = (64, 128), (0.65, 0.95)
FIRST = 25  # Numbers below are of studies that were judged before.


def small(number: int, recipe: str, data: Source, seq_len: int) -> Study:
    """A study of the benchmark; no other has its number, from which its seeds follow."""
    seed = 7000 + 10 * number
    tokens = seq_len * WINDOWS
    return Study(
        name=f"{data.kind}-{number:02d}",
        question="Are forecasts 3 and 10 times beyond the grid right?",
        budgets=BUDGETS,
        sizes=Ladder(d_models=(8, 12, 16, 20, 24, 32, 40), tokens_per_param=(0.7, 130.0)),
        # Two where the spread is large.
        seeds=((seed, seed + 1), (seed,), (seed,)),
        data=data,
        seq_len=seq_len,
        evaluation=EvalConfig(n_tokens=tokens, curve_tokens=tokens // 8, n_points=6, seed=number),
        max_epochs=1.0,
        flops="matmul_full",
        recipe=recipe_named(recipe).recipe,
        forecast_budgets=tuple(factor * BUDGETS[-1] for factor in FACTORS),
    )


def language(number: int, alpha: float) -> Zipf:
    """16,384 facts, more than these networks can learn; a record is six tokens."""
    return Zipf(
        alpha=alpha, epsilon=0.25, base=128, n_digits=2, n_answers=3, language_seed=7000 + number
    )


def _studies() -> Iterator[Study]:
    """Each kind once, then all of them again: stopped on the way, none is missing."""
    numbers = itertools.count(FIRST)
    texts: list[Source] = [kind(validation_fraction=0.05) for kind in (PepsText, StdlibText)]
    for _ in range(2):
        for recipe in RECIPES:
            for text, seq_len in itertools.product(texts, LENGTHS):
                yield small(next(numbers), recipe, text, seq_len)
            for alpha in ALPHAS:
                number = next(numbers)
                yield small(number, recipe, language(number, alpha), 126)


STUDIES = tuple(_studies())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("results/forecasts"), help="of the runs")
    parser.add_argument("--workers", default="2", help="processes that train")
    parser.add_argument("--gather", action="store_true", help="only what is finished, train none")
    options = parser.parse_args()
    if not options.gather:
        for number, study in enumerate(STUDIES):
            train(number, options.work, options.workers)
            print(f"{number + 1} of {len(STUDIES)}: {study.name}", flush=True)
    record = facts("make bench-forecast") | {"budgets": BUDGETS} | gathered(options.work)
    write("forecasts", record, page(record))
    draw(options.work)
    print(page(record))


def train(number: int, work: Path, workers: str) -> None:
    """One study, as a user would run it; ``number``: its place in STUDIES."""
    work.mkdir(parents=True, exist_ok=True)
    file = work / f"study{number}.py"
    file.write_text(
        f"from experiments.benchmarks.forecasts import STUDIES\nSTUDY = STUDIES[{number}]\n",
        encoding="utf-8",
    )
    run_study(str(file), "--workers", workers, results=work)


def gathered(work: Path) -> dict[str, Any]:
    """What came of every study so far, and coverage and errors by factor and kind of data."""
    rows, unfinished = [], []
    for study in STUDIES:
        ledger = Ledger(work, study.name)
        found, damaged = scores(ledger)
        if damaged or [one.counts for one in found] != [True] * len(FACTORS):
            unfinished.append(study.name)
            continue
        rows += [told(study, ledger, one, lowest_of_grid(ledger)) for one in found]
    return {
        "studies": len(STUDIES),
        "unfinished": unfinished,
        "forecasts": rows,
        "summary": [
            {"factor": factor, "data": kind, **summary(own)}
            for factor in FACTORS
            for kind in ("all", *dict.fromkeys(row["kind"] for row in rows))
            if (own := [r for r in rows if r["factor"] == factor and kind in ("all", r["kind"])])
        ],
    }


def told(study: Study, ledger: Ledger, one: Scored, lowest: float) -> dict[str, Any]:
    """A forecast and what came out of it."""
    guess, other, came_out = one.forecast.judged, one.forecast.conformal, one.came_out
    result = ledger.read_result(one.run)
    assert came_out is not None
    assert result is not None
    return {
        "study": study.name,
        "kind": study.data.kind,
        "recipe": study.recipe.name,
        "seq_len": study.seq_len,
        "alpha": study.data.alpha if isinstance(study.data, Zipf) else None,
        "factor": round(one.factor, 6),
        "value": guess.value,
        "lower": guess.lower,
        "upper": guess.upper,
        "widened": guess.widened,
        "came_out": came_out if np.isfinite(came_out) else None,
        "inside": one.verdict == "inside",
        "fall": lowest - came_out if np.isfinite(came_out) else None,
        "conformal": None if other is None else other.lower <= came_out <= other.upper,
        "conformal_level": None if other is None else other.level,
        "curve_inside": curve_inside(one.forecast, result.curve),
        "git_commit": one.forecast.git_commit,
        "sha256": one.sha256,
    }


def curve_inside(made: Forecast, curve: Sequence[CurvePoint]) -> float | None:
    """Share of a run's evaluations inside the band of its forecast curve; None without either."""
    if made.trajectory is None or not curve:
        return None
    share = np.array([point.n_tokens for point in curve]) / made.point.n_tokens
    came = np.array([point.loss_nats for point in curve])
    lower, upper = (
        np.interp(share, made.trajectory.share, ends)
        for ends in (made.trajectory.lower, made.trajectory.upper)
    )
    return float(np.mean((lower <= came) & (came <= upper)))


def lowest_of_grid(ledger: Ledger) -> float:
    """The lowest mean loss of any size at the largest budget of the grid, nats."""
    losses = defaultdict(list)
    with ledger.table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["role"] == "grid" and row["status"] == "ok":
                losses[float(row["budget"]), row["d_model"]].append(float(row["loss_nats"]))
    largest = max(budget for budget, _ in losses)
    return min(mean(found) for (budget, _), found in losses.items() if budget == largest)


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of one factor: one forecast per study, so that the binomial interval is exact."""
    share = coverage(
        np.array([row["inside"] for row in rows]), np.array([row["study"] for row in rows])
    )
    errors = [abs(row["came_out"] - row["value"]) for row in rows if row["came_out"] is not None]
    shares = [
        abs(row["came_out"] - row["value"]) / row["fall"] if row["fall"] > 0 else math.inf
        for row in rows
        if row["fall"] is not None
    ]
    ends = [(row["lower"], row["upper"]) for row in rows]
    widths = [upper - lower for lower, upper in ends if None not in (lower, upper)]
    curves = [row["curve_inside"] for row in rows if row["curve_inside"] is not None]
    return {
        "forecasts": len(rows),
        "inside": sum(row["inside"] for row in rows),
        "inside_bootstrap": sum(map(_inside_bootstrap, rows)),
        "lower": share.interval.lower,
        "upper": share.interval.upper,
        "error_nats": median(errors) if errors else None,
        "error_of_fall": median(shares) if shares and median(shares) < math.inf else None,
        "width_nats": median(widths) if widths else None,
        "widened": median(row["widened"] for row in rows),
        "conformal": [row["conformal"] for row in rows].count(True),
        "conformal_known": sum(row["conformal"] is not None for row in rows),
        "curve_inside": mean(curves) if curves else None,
    }


def _inside_bootstrap(row: Mapping[str, Any]) -> bool:
    """Whether the interval holds what came out before it is widened."""
    off = None if row["came_out"] is None else row["widened"] * (row["came_out"] - row["value"])
    return off is not None and row["lower"] <= row["value"] + off <= row["upper"]


def draw(work: Path) -> None:
    """forecasts.png."""
    found = [one for study in STUDIES for one in scores(Ledger(work, study.name))[0]]
    if (curve := calibrated(found)) is not None:
        from scaling.plots.calibration import figure_calibration
        from scaling.plots.style import save_png

        save_png(figure_calibration(curve), FOLDER / "forecasts.png")


if __name__ == "__main__":
    main()
