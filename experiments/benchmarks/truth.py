# SPDX-License-Identifier: Apache-2.0
"""make bench-truth: five zipf studies through the full path, each with a language of its own.

Writes results/benchmarks/truth.json and truth.md: per study and form of the law the fitted E, its
interval and the true entropy; then the bias over the studies and the interval widths.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from experiments.benchmarks.record import facts, made_by, run_study, write
from experiments.files import markdown
from experiments.ledger.ledger import Ledger
from experiments.studies.zipf_truth import STUDY
from model.data.manifest import Manifest

FORMS = ("additive", "curved")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=5)
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    began = time.perf_counter()
    rows = []
    for number in range(options.studies):
        rows.append(_one_study(number, options.results))
        print(json.dumps(rows[-1]), flush=True)
    record = facts("make bench-truth") | {
        "seconds": round(time.perf_counter() - began),
        "studies": rows,
        "summary": {form: _summary(rows, form) for form in FORMS},
    }
    write("truth", record, _page(record))
    print(_page(record))


def _one_study(number: int, results: Path) -> dict[str, Any]:
    """One study with its own language, initialisations, data order and validation set."""
    name = f"zipf_truth_{number}"
    seeds = json.dumps([[s + 10 * number for s in seeds] for seeds in STUDY.seeds_per_budget])
    overrides = [
        f"name={name}",
        f"data.language_seed={number}",
        f"evaluation.seed={number}",
        f"seeds={seeds}",
    ]
    run_study("zipf_truth", *overrides, results=results)
    ledger = Ledger(results, name)
    truth = Manifest.read(ledger.manifest).entropy_nats
    assert truth is not None
    row: dict[str, Any] = {"study": name, "entropy_nats": truth}
    for form in FORMS:
        fit = json.loads((ledger.fits / f"{form}.json").read_text())
        interval = fit["intervals"]["E"]
        row[form] = {
            "E": fit["parameters"]["E"],
            "bias": fit["parameters"]["E"] / truth - 1,
            "lower": interval["lower"],
            "upper": interval["upper"],
            "width": (interval["upper"] - interval["lower"]) / truth,
            "covers": interval["lower"] <= truth <= interval["upper"],
            "status": fit["status"],
        }
    return row


def _summary(rows: list[dict[str, Any]], form: str) -> dict[str, float]:
    biases = [row[form]["bias"] for row in rows]
    return {
        "mean_bias": statistics.mean(biases),
        "largest_abs_bias": max(map(abs, biases)),
        "mean_width": statistics.mean(row[form]["width"] for row in rows),
        "largest_width": max(row[form]["width"] for row in rows),
        "n_covering": sum(row[form]["covers"] for row in rows),
    }


def _page(record: dict[str, Any]) -> str:
    rows = [
        (
            *(row["study"], f"{row['entropy_nats']:.5f}", form, f"{fit['E']:.5f}"),
            *(f"{fit['bias']:+.2%}", f"{fit['lower']:.4f} to {fit['upper']:.4f}"),
            *(f"{fit['width']:.2%}", "yes" if fit["covers"] else "no", fit["status"]),
        )
        for row in record["studies"]
        for form, fit in ((form, row[form]) for form in FORMS)
    ]
    heads = ("study", "entropy, nats", "form", "E", "bias", "interval", "width", "covers", "status")
    lines = [
        "# Planted truth: fitted irreducible loss against the true entropy",
        "",
        f"{made_by(record)} {record['seconds']} s. Intervals: 95 %.",
        "",
        *markdown.table(heads, rows),
        "",
    ]
    for form, summary in record["summary"].items():
        lines.append(
            f"{form}: mean bias {summary['mean_bias']:+.2%}, largest "
            f"{summary['largest_abs_bias']:.2%}; mean width {summary['mean_width']:.2%}, largest "
            f"{summary['largest_width']:.2%}; {summary['n_covering']} of "
            f"{len(record['studies'])} intervals cover the truth."
        )
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
