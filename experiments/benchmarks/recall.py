# SPDX-License-Identifier: Apache-2.0
"""make bench-recall: what answers cost in the study `recall`, and what was predicted.

Writes results/benchmarks/recall.json, recall.md and recall.png: the nats that an answer costs
beyond the best predictor's, against the number of pairs, of attention and of states of few rows.
"""

import argparse
import csv
import math
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from experiments.benchmarks.record import FOLDER, facts, made_by, write
from experiments.files import markdown
from experiments.ledger.ledger import Ledger
from experiments.studies.recall import STUDY
from model.data.source import Recall
from model.data.synthetic.recall import entropy_nats, least_loss_nats
from model.network.counts.linear_recurrence import RecurrenceConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCE = cast(Recall, STUDY.data)
PAIRS = [int(n_pairs) for n_pairs in STUDY.axes[0].values]
RECIPES = {recipe.name: recipe for recipe in STUDY.axes[1].values}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    command = [sys.executable, "-m", "experiments.cli.main", "run", STUDY.name, "--anyway"]
    subprocess.run([*command, "--results", str(options.results)], check=True)
    table = Ledger(options.results, STUDY.name).table.read_text()
    record = facts("make bench-recall") | {"budget": STUDY.budgets[0], "answers": answers(table)}
    write("recall", record, page(record))
    from scaling.plots.style import save_png

    save_png(figure(record["answers"]), FOLDER / "recall.png")


def answers(table: str) -> list[dict[str, Any]]:
    """Of each recipe and number of pairs the nats per answer, as they were and as predicted."""
    found: dict[tuple[str, int], list[float]] = {}
    for row in csv.DictReader(table.splitlines()):
        if row["status"] == "ok":
            key = row["recipe"], int(float(row["data.n_pairs"]))
            excess = float(row["loss_nats"]) - float(row["oracle_loss_nats"])
            found.setdefault(key, []).append(per_answer(key[1], excess))
    return [
        {
            "recipe": name,
            "n_pairs": n_pairs,
            "nats": round(statistics.mean(nats), 4),
            "predicted": round(predicted(name, n_pairs), 4),
        }
        for (name, n_pairs), nats in sorted(found.items(), key=lambda item: item[0][1])
    ]


def per_answer(n_pairs: int, excess: float) -> float:
    """Of nats per token beyond the entropy: all of them set to the answers of a record."""
    return excess * replace(SOURCE, n_pairs=n_pairs).record_length / SOURCE.n_queries


def state_rows(name: str) -> float:
    """Keys that the states of all layers hold at most if their values are not to mix; infinite
    where all keys are kept."""
    (d_model,) = cast(Any, STUDY.sizes).d_models
    shape, rows = RECIPES[name].shape, 0
    for block in shape.blocks:
        sizes = block.mixer.config(d_model=d_model, n_layers=shape.min_layers)
        if not isinstance(sizes, RecurrenceConfig):
            return math.inf
        _, n_heads, d_key, _ = sizes.heads
        rows += n_heads * d_key * (shape.min_layers // len(shape.blocks))
    return rows


def predicted(name: str, n_pairs: int) -> float:
    """Nats per answer where a row holds one value whole: ln V max(0, 1 - rows / P)."""
    source = replace(SOURCE, n_pairs=n_pairs)
    bits = state_rows(name) * math.log2(source.n_values)
    return per_answer(n_pairs, least_loss_nats(source, bits) - entropy_nats(source))


def page(record: dict[str, Any]) -> str:
    """Rows in the order of the study."""
    by_name: dict[str, dict[int, dict[str, Any]]] = {}
    for row in record["answers"]:
        by_name.setdefault(row["recipe"], {})[row["n_pairs"]] = row
    rows = [
        (name, *(_cell(by_name.get(name, {}).get(n_pairs)) for n_pairs in PAIRS))
        for name in RECIPES
    ]
    lines = [
        "# Associative recall: pairs against the rows of a state",
        "",
        f"{made_by(record)} Study `{STUDY.name}` at {record['budget']:.0e} FLOPs: nats per answer "
        f"beyond the best predictor's (a guess costs {math.log(SOURCE.n_values):.2f}), all that a "
        "network loses set to the answers; in parentheses what was predicted: that a row of a "
        "state holds one value.",
        "",
        "![Nats per answer against pairs](recall.png)",
        "",
        *markdown.table(("recipe", *(f"{n} pairs" for n in PAIRS)), rows),
        "",
    ]
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None) -> str:
    return "not measured" if row is None else f"{row['nats']:.2f} ({row['predicted']:.2f})"


def figure(rows: list[dict[str, Any]]) -> "Figure":
    """A line for each recipe, and a dotted one of its colour for what was predicted."""
    from scaling.plots.style import new_figure, setting_styles, styled

    with styled():
        made, (ax,) = new_figure()
        for name, style in setting_styles([*RECIPES]).items():
            mine = [row for row in rows if row["recipe"] == name]
            pairs = [row["n_pairs"] for row in mine]
            ax.plot(pairs, [row["nats"] for row in mine], **style, markersize=4, label=name)
            guess = [row["predicted"] for row in mine]
            ax.plot(pairs, guess, color=style["color"], linestyle=":", linewidth=1.0)
        ax.axhline(math.log(SOURCE.n_values), color="#888888", linewidth=0.8, label="a guess")
        ax.set(xlabel="pairs in the context", ylabel="nats per answer", ylim=(0, None))
        ax.set_title("Recall against the rows of a state; dotted: predicted")
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return made


if __name__ == "__main__":
    main()
