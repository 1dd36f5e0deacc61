# SPDX-License-Identifier: Apache-2.0
"""The tables and the figures of make bench-saving-again, from its record alone."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.saving_page import (
    BASE,
    LABELS,
    LAWS,
    band_cell,
    doubt,
    draw_bars,
    evidence_per_second,
    log_width,
)
from experiments.benchmarks.saving_worth import evidence as worth_per_second
from scaling.plot_style import APPROACHES, new_figure, save, styled

# Of make bench-saving, and of a first try of this one: these have shaped the protocol.
FIRST, SECOND = "0,1,2", "5,6,7"
# Of the loop that chose per FLOP and took branches of a trunk to share half of their noise.
BEFORE = ("10,11,12", "15,16,17", "20,21,22", "25,26,27")
# Ways that choose their runs are run with new seeds; the others choose nothing.
CHOSEN, SETTLED = ("next", "trunks and next"), ("packed", "trunks")
# New sets of seeds for each study; so few differences tell their root mean square to about a third.
N_SETS, MOST_RMS = 4, 1.5

Array = np.ndarray


def page(record: dict[str, Any]) -> str:
    """saving_again.md."""
    margins = record["margins"]
    judges = [f"{LABELS[study]}: {_judge(sets)}" for study, sets in record["sets"].items()]
    lines = [
        "# Runs chosen by what is known so far, with other seeds",
        "",
        f"`{record['command']}` on {record['device']}, {record['cores']} cores, Python "
        f"{record['python']}, jax {record['version_jax']}. Not measured on a GPU.",
        "",
        "The studies and ways of [saving.md](saving.md), where what the seeds 0, 1, 2 showed has "
        "shaped the protocol; here it is fixed and the seeds are new. *alone* trains the whole "
        "grid, every point by itself; *next* chooses runs until N* at the target is as well known "
        "as from *alone* of the same seeds; *trunks and next* does so on shared trunks.",
        "",
        "Stated before the first of these runs: a way's answers are equal to those of *alone* "
        "where, over the new sets of seeds, by the surface that judged *alone* in saving.md "
        f"({', '.join(judges)}), at the largest budget, the mean differences are within the "
        f"margins of saving.md ({margins['loss_nats']:g} nats in L*, {margins['log_n_params']:g} "
        f"in ln N*) and the root mean squares are at most {MOST_RMS:g} times those between two "
        "grids trained alone with different seeds. The other surface is shown. New sets of "
        f"seeds planned for each study: {N_SETS}; the table says how many were run.",
        "",
        "Runs are chosen for what they tell per device-second, as earlier runs of the study took "
        "them, and branches of a trunk are taken to share the noise of the tokens that both have "
        "seen. The sets that were run before these two changes have a table of their own; what "
        "they showed has shaped the changes. Grids trained alone are the same before and after: "
        "those of all sets are compared with each other.",
        "",
        f"Seeds {FIRST} and {SECOND} are shown below and counted nowhere. {SECOND} were a first "
        "try of this page. Its rounds were as large as the loop's stages and overshot the goal: "
        "since then no round spends more than the interval asks for. On zipf it chose runs at half "
        "of the study's lowest budget, and N* by the curved surface, which judged, was half of "
        "that of *alone*: since then nothing below the lowest budget is chosen. "
        f"{SECOND} were run before these changes, {FIRST} after all of them.",
        "",
        "Since the new sets were run, a curved surface whose gamma ends at its bound judges no "
        "round (saving.md says why). None of these sets had ended by such a surface.",
        "",
        *_summaries(record, is_before=False),
        "",
        "*alone, other seeds*: between every two of the grids trained alone. Against alone: "
        "geometric means, larger is cheaper, of what was spent until the goal was met or the "
        "budget, the FLOPs of the grid, was spent; wall seconds of the whole command, with fits. "
        "Evidence per device-second, against alone: by the interval that each study found of "
        "itself, which its own draw of the noise makes wide or narrow, and by the law and the "
        "noise of all runs (saving_worth.py), which tells the design alone.",
        "",
        "![differences from runs trained alone](saving_again.png)",
        "",
        "![evidence per device-second](saving_again_evidence.png)",
        "",
        "Evidence is 1 / (width of ln N* at the target)^2; a dot is one set of seeds, a bar their "
        "geometric mean. *packed* and *trunks* are those of saving.md.",
        "",
        "The sets before, chosen per FLOP:",
        "",
        *_summaries(record, is_before=True),
        "",
        "## Within half of the time",
        "",
        "What each way had answered by the end of the last round that ended within half of the "
        "device-seconds of *alone* of the same seeds, trunks and compilation among them, over all "
        "sets that are counted, before and now; the criterion is the one above. On text this was "
        "read off when the sets were known, with no number in it to choose; for zipf it was stated "
        "before it was read.",
        "",
        "| study | law | way | sets | device s, against alone | ln N*: mean | rms | L*: mean | "
        "rms | within both margins | equal |",
        f"|{'---|' * 11}",
        *_halves(record),
        "",
        "All runs are in saving_again_trunks.csv and saving_again_trunks_zipf.csv; those that "
        "several ways trained have the same row in each.",
        "",
        "## Every set",
        "",
        "| study | seeds | way | runs | FLOPs spent | device s | against alone | wall s | law | "
        "N* at the top | L* at the top | ln N* | L* | ln width at the target | its sd by the noise "
        "of all |",
        f"|{'---|' * 15}",
    ]
    for study, sets in record["sets"].items():
        for seeds, ways in sets.items():
            names = [name for name in (BASE, *CHOSEN) if name in ways]
            worth = record.get("worth", {}).get(study, {}).get(seeds, {})
            lines += [_row(study, seeds, name, ways, _judge(sets), worth) for name in names]
    return "\n".join([*lines, *_noise(record), ""])


def _noise(record: dict[str, Any]) -> list[str]:
    """How repeats scatter, and what branches share."""
    lines = [
        "",
        "## Noise of repeats",
        "",
        "Sd of log loss among runs that differ in their seed only, in thousandths, by size "
        "(degrees of freedom). The choice of runs takes the noise to depend on the loss alone.",
        "",
    ]
    for study, sizes in record.get("noise", {}).items():
        said = ", ".join(f"{n:,.0f}: {1e3 * sd:.1f} ({dof})" for n, sd, dof in sizes)
        lines.append(f"- {LABELS[study]}: {said}")
    lines += [
        "",
        "## Noise that branches share",
        "",
        "Correlation of log loss, over seeds, between runs of one size and seed with so many times "
        "as many tokens (pairs of runs). The choice of runs takes it to be the part of the longer "
        "run's tokens that both have seen: one over the ratio.",
        "",
    ]
    for study, ratios in record.get("in_common", {}).items():
        said = ", ".join(f"{ratio:.3g}: {r:.2f} ({n})" for ratio, r, n in ratios)
        lines.append(f"- {LABELS[study]}: {said}")
    return lines


def _summaries(record: dict[str, Any], *, is_before: bool) -> list[str]:
    """The table of the sets that count, or of those before."""
    lines = [
        "| study | law | way | sets | device s, against alone | wall s | evidence: its interval | "
        "the noise of all | ln N*: mean | rms | L*: mean | rms | within both margins | equal |",
        f"|{'---|' * 14}",
    ]
    for study, sets in record["sets"].items():
        judge = _judge(sets)
        for law in (judge, *(law for law in LAWS if law != judge)):
            lines += _summary(study, record, law, is_before=is_before)
    return lines


def of_loop(sets: dict[str, Any], *, is_before: bool) -> dict[str, Any]:
    """The sets that count, or those before, beside those that have shaped the protocol."""
    return {
        seeds: ways
        for seeds, ways in sets.items()
        if seeds in (FIRST, SECOND) or (seeds in BEFORE) == is_before
    }


def _judge(sets: dict[str, Any]) -> str:
    """The surface that judged runs alone when the protocol was stated."""
    return str(sets[FIRST][BASE]["forecaster"])


def _complete(sets: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The new sets in which a way was run."""
    return [
        ways
        for seeds, ways in sets.items()
        if seeds not in (FIRST, SECOND) and {BASE, name} <= set(ways)
    ]


def _summary(study: str, record: dict[str, Any], law: str, *, is_before: bool) -> list[str]:
    """One row for runs alone among themselves, of all sets, and one for each other way."""
    sets, margins = record["sets"][study], record["margins"]
    control, of_this = repeats(sets, law), of_loop(sets, is_before=is_before)
    worth = record.get("worth", {}).get(study, {})
    if not len(control):
        return []  # A benchmark that has only begun.
    lines = []
    if not is_before:
        cells = [LABELS[study], law, "alone, other seeds", f"{len(control)} pairs", *[""] * 4]
        lines.append(_joined(cells, control, margins, ""))
    for name in CHOSEN:
        new = _complete(of_this, name)
        if not new:
            continue
        found = differences(of_this, name, law)
        judges = law == _judge(sets)
        verdict = ("yes" if are_equal(found, control, margins) else "NO") if judges else ""
        ratios = [
            f"{_mean_ratio(new, name, unit):.2f}x" for unit in ("device_seconds", "wall_seconds")
        ]
        evidences = _evidences(of_this, worth, name) if judges else ("", "")
        cells = [LABELS[study], law, name, str(len(new)), *ratios, *evidences]
        lines.append(_joined(cells, found, margins, verdict))
    return lines


def _halves(record: dict[str, Any]) -> list[str]:
    """A row for each study, surface and way."""
    lines = []
    for study, halves in record.get("half", {}).items():
        sets, judge = record["sets"][study], _judge(record["sets"][study])
        for law in (judge, *(law for law in LAWS if law != judge)):
            control = repeats(sets, law)
            for name in CHOSEN:
                both = [
                    (ways[name], sets[seeds][BASE])
                    for seeds, ways in halves.items()
                    if seeds not in (FIRST, SECOND) and name in ways
                ]
                if not both or not len(control):
                    continue
                found = np.array([_top(way, law) - _top(base, law) for way, base in both])
                saved = [base["device_seconds"] / way["device_seconds"] for way, base in both]
                verdict = "yes" if are_equal(found, control, record["margins"]) else "NO"
                cells = [LABELS[study], law, name, str(len(both)), f"{_geometric(saved):.2f}x"]
                lines.append(
                    _joined(cells, found, record["margins"], verdict if law == judge else "")
                )
    return lines


def _evidences(sets: dict[str, Any], worth: dict[str, Any], name: str) -> tuple[str, str]:
    """Evidence per device-second over that of runs alone, geometric means: by the interval that
    each set found of itself, and by the noise of all runs."""
    own = evidence(sets).get(name, [])
    told = [
        worth_per_second(
            worth[seeds], {way: ways[way]["device_seconds"] for way in (BASE, name)}, name, BASE
        )
        for seeds, ways in sets.items()
        if seeds not in (FIRST, SECOND) and {BASE, name} <= set(ways) & set(worth.get(seeds, {}))
    ]
    own_cell, told_cell = (f"{_geometric(v):.2f}x" if v else "" for v in (own, told))
    return own_cell, told_cell


def _geometric(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _joined(cells: list[str], found: Array, margins: dict[str, float], verdict: str) -> str:
    means, sizes = found.mean(axis=0), rms(found)
    within = int(np.all(np.abs(found) < _limits(margins), axis=1).sum())
    cells = [
        *cells,
        # Which of two grids is the first has no meaning.
        f"{means[0]:+.3f}" if cells[4] else "",
        f"{sizes[0]:.3f}",
        f"{means[1]:+.4f}" if cells[4] else "",
        f"{sizes[1]:.4f}",
        f"{within} of {len(found)}",
        verdict,
    ]
    return f"| {' | '.join(cells)} |"


def differences(sets: dict[str, Any], name: str, law: str) -> Array:
    """Of a way from runs alone of the same seeds, each new set: ln N* and L*, [S, 2]."""
    new = _complete(sets, name)
    return np.array([_top(ways[name], law) - _top(ways[BASE], law) for ways in new])


def repeats(sets: dict[str, Any], law: str) -> Array:
    """Between every two grids trained alone with new seeds: ln N* and L*, [P, 2]."""
    tops = [_top(ways[BASE], law) for ways in _complete(sets, BASE)]
    pairs = [b - a for a, b in itertools.combinations(tops, 2)]
    return np.array(pairs).reshape(-1, 2)


def rms(found: Array) -> Array:
    return np.sqrt(np.mean(found**2, axis=0))


def are_equal(found: Array, control: Array, margins: dict[str, float]) -> bool:
    """As the page states it."""
    is_unbiased = np.abs(found.mean(axis=0)) < _limits(margins)
    return bool(np.all(is_unbiased & (rms(found) <= MOST_RMS * rms(control))))


def _limits(margins: dict[str, float]) -> Array:
    return np.array([margins["log_n_params"], margins["loss_nats"]])


def _top(way: dict[str, Any], law: str) -> Array:
    """ln N* and L* at the largest budget."""
    top = way["answers"][law]["top"]
    return np.array([math.log(top["n_params_opt"]["value"]), top["loss"]["value"]])


def _mean_ratio(sets: list[dict[str, Any]], name: str, unit: str) -> float:
    """Geometric mean of what runs alone took over what a way took."""
    return _geometric([ways[BASE][unit] / ways[name][unit] for ways in sets])


def _row(
    study: str, seeds: str, name: str, ways: dict[str, Any], law: str, worth: dict[str, float]
) -> str:
    way, base = ways[name], ways[BASE]
    answers = way["answers"][law]
    change = _top(way, law) - _top(base, law)
    cells = [
        LABELS[study],
        seeds,
        name,
        str(way["runs"]),
        f"{way['flops_spent']:.3g}",
        f"{way['device_seconds']:.0f}",
        f"{base['device_seconds'] / way['device_seconds']:.2f}x",
        f"{way['wall_seconds']:.0f}",
        law + doubt(answers),
        band_cell(answers["top"]["n_params_opt"], ",.0f"),
        band_cell(answers["top"]["loss"], ".4f"),
        "" if way is base else f"{change[0]:+.3f}",
        "" if way is base else f"{change[1]:+.4f}",
        f"{log_width(answers['target']['n_params_opt']):.3f}",
        f"{worth[name]:.3f}" if name in worth else "",
    ]
    return f"| {' | '.join(cells)} |"


@styled()
def draw(record: dict[str, Any], folder: Path) -> None:
    """Differences of ln N* and L* from runs alone of the same seeds, and among runs alone."""
    studies = list(record["sets"])
    margin = _limits(record["margins"])
    figure, axes = new_figure(len(studies), width=7.2, height=3.2)
    for axis, study in zip(axes, studies, strict=False):
        sets = record["sets"][study]
        law = _judge(sets)
        axis.axvspan(-margin[0], margin[0], color="#999999", alpha=0.12, linewidth=0)
        axis.axhspan(-margin[1], margin[1], color="#999999", alpha=0.12, linewidth=0)
        control = repeats(sets, law)
        both = np.concatenate([control, -control])
        axis.plot(*both.T, "o", color="#999999", markersize=3, label="alone, other seeds")
        for colour, name in zip(APPROACHES, CHOSEN, strict=False):
            found = differences(of_loop(sets, is_before=False), name, law).reshape(-1, 2)
            axis.plot(*found.T, "D", color=colour, label=name)
        axis.set_title(f"{LABELS[study]}, {law} surface")
        axis.set_xlabel("difference of ln N*")
    axes[0].set_ylabel("difference of L*, nats per token")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    save(figure, folder / "saving_again")


@styled()
def draw_evidence(record: dict[str, Any], folder: Path) -> None:
    """Evidence per device-second over that of runs alone of the same seeds."""
    studies = list(record["sets"])
    figure, axes = new_figure(len(studies), width=7.2, height=3.0)
    for axis, study in zip(axes, studies, strict=False):
        draw_bars(axis, LABELS[study], evidence(of_loop(record["sets"][study], is_before=False)))
    save(figure, folder / "saving_again_evidence")


def evidence(sets: dict[str, Any]) -> dict[str, list[float]]:
    """Evidence per device-second of each way over that of runs alone, one number per set."""
    law = _judge(sets)

    def ratio(ways: dict[str, Any], name: str) -> float:
        return evidence_per_second(ways[name], law) / evidence_per_second(ways[BASE], law)

    found = {name: [ratio(sets[FIRST], name)] for name in (BASE, *SETTLED) if name in sets[FIRST]}
    for name in CHOSEN:
        if new := _complete(sets, name):
            found[name] = [ratio(ways, name) for ways in new]
    return found
