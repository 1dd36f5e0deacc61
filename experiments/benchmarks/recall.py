# SPDX-License-Identifier: Apache-2.0
"""make bench-recall: what answers cost the networks of the study `recall`, and what was predicted.

Writes results/benchmarks/recall.json, recall.md and recall.png: the nats that an answer costs
against the number of pairs, of attention and of states of few numbers.
"""

import argparse
import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from experiments.benchmarks.record import FOLDER, facts, made_by, run_study, write
from experiments.files import markdown
from experiments.ledger.ledger import Ledger
from experiments.studies.recall import PAIRS, SEQ_LEN, STUDY
from model.data.source import Mixture, Recall
from model.data.streams import Purpose
from model.data.synthetic.recall import RecallLanguage, entropy_nats, least_loss_nats
from model.network.counts.linear_recurrence import RecurrenceConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCES = {
    n_pairs: cast(Recall, part.source)
    for n_pairs, part in zip(PAIRS, cast(Mixture, STUDY.data).parts, strict=True)
}
RECIPES = {recipe.name: recipe for recipe in STUDY.axes[0].values}
GUESS = math.log(SOURCES[PAIRS[0]].n_values)
# Held by each number of a state that sums the pairs (Palm 1992), and at most, whatever the numbers
# are, if it is read linearly (Cover 1965).
BITS_PER_NUMBER = 1.0 / (2.0 * math.log(2.0))
BITS_AT_MOST = 2.0
# Of windows that no network was trained on, nor its validation drew.
N_WINDOWS, SEED = 128, 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    run_study(STUDY.name, "--anyway", results=options.results, is_told=True)
    record = facts("make bench-recall") | {
        "budget": STUDY.budgets[0],
        "answers": rows(asked(Ledger(options.results, STUDY.name))),
    }
    write("recall", record, page(record))
    from scaling.plots.style import save_png

    save_png(figure(record["answers"]), FOLDER / "recall.png")


def asked(ledger: Ledger) -> dict[tuple[str, int], list[float]]:
    """By recipe and number of pairs the nats per answer of each seed."""
    from experiments.weights.load_model import load_model

    found: dict[tuple[str, int], list[float]] = {}
    for row in csv.DictReader(ledger.table.read_text().splitlines()):
        if row["status"] == "ok":
            model = load_model(f"{STUDY.name}:{row['run_id']}", results=ledger.results)
            for n_pairs, source in SOURCES.items():
                nats = answer_nats(model, source)
                found.setdefault((row["recipe"], n_pairs), []).append(nats)
    return found


def answer_nats(model: Callable[[np.ndarray], Any], source: Recall) -> float:
    """Mean nats that an answer costs.

    Args:
      model: int [B, T] -> logits [B, T, V].
    """
    from scipy.special import log_softmax

    language = RecallLanguage(source)
    windows = language.sample_windows(
        0, N_WINDOWS, seq_len=SEQ_LEN, seed=SEED, purpose=Purpose.VALIDATION
    )
    logits = np.asarray(model(windows[:, :-1]), np.float64)
    told = np.take_along_axis(log_softmax(logits, axis=-1), windows[:, 1:, None], axis=-1)
    of_records = -told.reshape(-1, source.record_length)
    return float(of_records[:, language.answers].mean())


def rows(found: dict[tuple[str, int], list[float]]) -> list[dict[str, Any]]:
    """Of each recipe and number of pairs the nats per answer of each seed, and the prediction."""
    return [
        {
            "recipe": name,
            "n_pairs": n_pairs,
            "nats": [round(each, 4) for each in nats],
            "predicted": round(predicted(name, n_pairs), 4),
        }
        for (name, n_pairs), nats in sorted(found.items(), key=lambda item: item[0][1])
    ]


def state_numbers(name: str) -> float:
    """Of the states of all layers; infinite where all pairs are kept."""
    (d_model,) = cast(Any, STUDY.sizes).d_models
    shape, numbers = RECIPES[name].shape, 0
    for block in shape.blocks:
        sizes = block.mixer.config(d_model=d_model, n_layers=shape.min_layers)
        if not isinstance(sizes, RecurrenceConfig):
            return math.inf
        _, n_heads, d_key, d_value = sizes.heads
        numbers += n_heads * d_key * d_value * (shape.min_layers // len(shape.blocks))
    return numbers


def predicted(name: str, n_pairs: int) -> float:
    """Nats that an answer costs where each number of a state holds BITS_PER_NUMBER."""
    source = SOURCES[n_pairs]
    excess = least_loss_nats(source, BITS_PER_NUMBER * state_numbers(name)) - entropy_nats(source)
    return excess * source.record_length / source.n_queries


def recalled_bits(row: dict[str, Any]) -> float:
    """Of all pairs, by the nats that an answer costs less than a guess; of the best seed."""
    return row["n_pairs"] * max(0.0, GUESS - min(row["nats"])) / math.log(2)


def page(record: dict[str, Any]) -> str:
    """Rows in the order of the study."""
    by_name: dict[str, dict[int, dict[str, Any]]] = {}
    for row in record["answers"]:
        by_name.setdefault(row["recipe"], {})[row["n_pairs"]] = row
    table = [
        (name, *(_cell(mine.get(n_pairs)) for n_pairs in PAIRS), *_most(name, mine))
        for name, mine in ((name, by_name.get(name, {})) for name in RECIPES)
    ]
    heads = ("recipe", *(f"{n} pairs" for n in PAIRS), "bits recalled at most", "per number")
    lines = [
        "# Associative recall: pairs against the numbers of a state",
        "",
        f"{made_by(record)} Study `{STUDY.name}` at {record['budget']:.0e} FLOPs, seeds: "
        f"{len(STUDY.seeds)}: nats per answer, the lowest and the highest of the seeds (a guess "
        f"costs {GUESS:.2f}, the best predictor 0); in parentheses what was predicted of a state "
        f"that sums the pairs: {BITS_PER_NUMBER:.2f} bits in each of its numbers (of which linear "
        f"readouts tell no more than {BITS_AT_MOST:g} apart). Bits recalled: pairs times the bits "
        "that an answer of the best seed costs less than a guess.",
        "",
        "![Nats per answer against pairs](recall.png)",
        "",
        *markdown.table(heads, table),
        "",
    ]
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "not measured"
    least = f" ({row['predicted']:.2f})" if row["predicted"] else ""
    return f"{min(row['nats']):.3f} to {max(row['nats']):.3f}{least}"


def _most(name: str, mine: dict[int, dict[str, Any]]) -> tuple[str, str]:
    """Bits recalled, and for each number of a state."""
    most, numbers = max(map(recalled_bits, mine.values()), default=math.nan), state_numbers(name)
    return f"{most:.1f}", "" if math.isinf(numbers) else f"{most / numbers:.2f}"


def figure(rows: list[dict[str, Any]]) -> "Figure":
    """A line for each recipe through its best seeds, points of the others, and a dotted line of
    its colour for what was predicted."""
    from scaling.plots.style import new_figure, setting_styles, styled

    with styled():
        made, (ax,) = new_figure()
        for name, style in setting_styles([*RECIPES]).items():
            if not (mine := [row for row in rows if row["recipe"] == name]):
                continue
            pairs = [row["n_pairs"] for row in mine]
            best = [min(row["nats"]) for row in mine]
            ax.plot(pairs, best, **style, markersize=4, label=name)
            every = [(row["n_pairs"], nats) for row in mine for nats in row["nats"]]
            ax.plot(*zip(*every, strict=True), ".", color=style["color"], markersize=3)
            least = [row["predicted"] for row in mine]
            ax.plot(pairs, least, color=style["color"], linestyle=":", linewidth=1.0)
        ax.axhline(GUESS, color="#888888", linewidth=0.8, label="a guess")
        ax.set(xlabel="pairs in the context", ylabel="nats per answer", ylim=(0, None))
        ax.set_title("Recall against the numbers of a state; dotted: predicted")
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return made


if __name__ == "__main__":
    main()
