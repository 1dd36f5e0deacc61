# SPDX-License-Identifier: Apache-2.0
"""The table and the figure of make bench-saving, from its record alone."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from scaling.plots.style import APPROACHES, log_counts, new_figure, save, scientific, styled

BASE = "alone"
LABELS = {"trunks": "text", "trunks_zipf": "zipf"}
LAWS = ("additive", "curved")
_ANSWERS = "N* at the top | L* at the top | equal | N* at the target | ln width | a"


def page(record: dict[str, Any]) -> str:
    """saving.md."""
    margins = record["margins"]
    lines = [
        "# One study, run in every way: what each costs, and whether the answers are the same",
        "",
        f"`{record['command']}` on {record['device']}, {record['cores']} cores, Python "
        f"{record['python']}, jax {record['version_jax']}. Not measured on a GPU.",
        "",
        "Text: study `trunks`, five budgets (2.5e10 to 4e11 FLOPs), five or six sizes at each, "
        "three seeds. Zipf: study `trunks_zipf`. Every way: compile cache filled, several steps "
        "per dispatch, one process per core. *alone* trains every point by itself with the "
        "schedule of the trunks (warm-up, plateau, decay); *cosine* is a recipe of its own, "
        "whose law may differ; *packed* trains the three seeds of a point together by vmap; "
        "*next* lets the runs so far choose the next ones until the interval of N* at the target "
        "is as narrow, relative to N*, as that of *alone*.",
        "",
        f"Stated before: answers are equal where L* differs by less than "
        f"{margins['loss_nats']:g} nats and ln N* by less than {margins['log_n_params']:g}, at the "
        f"largest budget; target: {record['target_factor']:g} times that budget; 95 % intervals.",
        "",
        "Changed after a first try had been seen: answers were the additive surface's and are "
        "those of the surface that a goal is judged by for *alone* (additive, unless its runs "
        "resolve gamma from 1: then curved), with the other one below, and NO in either table "
        "where the margins are missed; goals were absolute widths, which low estimates of N* "
        "meet sooner, and are relative to N*. When this page was first made with the loop that "
        "chooses per device-second, zipf's *next* had stopped after 17 runs and 48 device-seconds "
        "by a curved surface with gamma at its bound, and an N* that did not grow with the budget; "
        "the additive one had ln N* 0.38 below that of *alone*. Since then such a surface judges "
        "nothing, and the ways that choose were run again, and after them *alone*, *trunks* and "
        "text's *packed*.",
        "",
        f"| study | way | law | runs | FLOPs spent | of | device s | against alone | speed | "
        f"wall s | {_ANSWERS} |",
        f"|{'---|' * 16}",
    ]
    ways = record["ways"]
    for name, way in ways.items():
        base = _base(ways, name)
        lines.append(_row(name, base["forecaster"], way, base, margins, has_costs=True))
    lines += [
        "",
        *_same(ways),
        "",
        "This is one set of seeds. What ways that choose their runs save differs from set to set "
        "by more than a factor of two: [saving_again.md](saving_again.md).",
        "",
        "By the other surface:",
        "",
    ]
    lines += [f"| study | way | law | {_ANSWERS} |", f"|{'---|' * 9}"]
    for name, way in ways.items():
        base = _base(ways, name)
        (law,) = set(way["answers"]) - {base["forecaster"]}
        lines.append(_row(name, law, way, base, margins, has_costs=False))
    lines.append("")
    lines += [
        "Device seconds are those of all attempts with compilation (from the cache), evaluation "
        "and checkpoints; fits and choices of the main process are not among them, but in the wall "
        "seconds of the whole command. Speed: FLOP/s while training, of the networks that both "
        "ways trained, against *alone* (geometric mean). But for *packed*, which trains otherwise, "
        "it tells how the machine itself changed from one way to the next: *against alone* is that "
        "much too large or too small. ln width: ln upper end - ln lower end of N* at the target.",
        "",
        "![evidence per device-second](saving.png)",
        "",
        "## Three frontiers",
        "",
        "Of runs alone (cosine; warm-up, plateau, decay) and of branches, 95 % bands:",
        "",
        "![frontiers](saving_frontiers.png)",
        "",
        "Differences from *alone* at each budget, lowest first; **bold** where the two intervals "
        "do not overlap:",
        "",
        "| study | way | law | ln N* | L*, nats |",
        "|---|---|---|---|---|",
        *_differences(ways),
        "",
    ]
    return "\n".join(lines)


def _base(ways: dict[str, Any], name: str) -> dict[str, Any]:
    """The runs trained alone of the same study."""
    return ways[f"{name.partition(':')[0]}:{BASE}"]


def _row(
    name: str,
    law: str,
    way: dict[str, Any],
    base: dict[str, Any],
    margins: dict[str, float],
    *,
    has_costs: bool,
) -> str:
    study, _, which = name.partition(":")
    answers = way["answers"][law]
    top, target, a = answers["top"], answers["target"], answers["exponent_a"]
    cells = [LABELS.get(study, study), which, law + doubt(answers)]
    if has_costs:
        cells += [
            str(way["runs"]),
            f"{way['flops_spent']:.3g}",
            f"{way['flops_attributed']:.3g}",
            f"{way['device_seconds']:.0f}",
            f"{base['device_seconds'] / way['device_seconds']:.2f}x",
            f"{_speed(way, base):.2f}x",
            f"{way['wall_seconds']:.0f}",
        ]
    cells += [
        band_cell(top["n_params_opt"], ",.0f"),
        band_cell(top["loss"], ".4f"),
        "" if way is base else _equal(top, base["answers"][law]["top"], margins),
        band_cell(target["n_params_opt"], ",.0f"),
        f"{log_width(target['n_params_opt']):.3f}",
        f"{a['value']:.3f} ({a['lower']:.3f} to {a['upper']:.3f})",
    ]
    return f"| {' | '.join(cells)} |"


def _speed(way: dict[str, Any], base: dict[str, Any]) -> float:
    """How fast networks trained, against the same ones in another way."""
    ours, theirs = way["flops_per_second"], base["flops_per_second"]
    return math.exp(np.mean([math.log(ours[work] / theirs[work]) for work in ours.keys() & theirs]))


def band_cell(band: dict[str, float], form: str) -> str:
    return f"{band['value']:{form}} ({band['lower']:{form}} to {band['upper']:{form}})"


def _equal(ours: dict[str, Any], theirs: dict[str, Any], margins: dict[str, float]) -> str:
    loss = abs(ours["loss"]["value"] - theirs["loss"]["value"])
    size = abs(math.log(ours["n_params_opt"]["value"] / theirs["n_params_opt"]["value"]))
    is_equal = loss < margins["loss_nats"] and size < margins["log_n_params"]
    return f"{'yes' if is_equal else 'NO'} ({loss:.4f}, {size:.3f})"


def _differences(ways: dict[str, Any]) -> list[str]:
    """Of the frontiers of other ways from that of runs alone."""
    lines = []
    for name, way in ways.items():
        study, _, which = name.partition(":")
        base = _base(ways, name)
        if which not in ("cosine", "trunks"):
            continue
        law = base["forecaster"]
        cells = [LABELS.get(study, study), which, law + doubt(way["answers"][law])]
        ours, theirs = (one["answers"][law]["frontier"] for one in (way, base))
        for quantity, change in (("n_params_opt", _ratio), ("loss", _minus)):
            a, b = ours[quantity], theirs[quantity]
            said = []
            for n, value in enumerate(a["value"]):
                overlap = a["lower"][n] <= b["upper"][n] and b["lower"][n] <= a["upper"][n]
                text = change(value, b["value"][n])
                said.append(text if overlap else f"**{text}**")
            cells.append(", ".join(said))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _ratio(a: float, b: float) -> str:
    return f"{math.log(a / b):+.2f}"


def _minus(a: float, b: float) -> str:
    return f"{a - b:+.4f}"


def doubt(answers: dict[str, Any]) -> str:
    """Of the fit that they come from."""
    return {"CONVERGED": "", "AT_BOUND": ", at a bound"}.get(answers["status"], ", not certified")


def _same(ways: dict[str, Any]) -> list[str]:
    """Whether the tables of runs trained alone and branched are the same bytes."""
    lines = []
    for study, label in LABELS.items():
        names = [f"{study}:{way}" for way in (BASE, "trunks")]
        if all(name in ways for name in names):
            is_same = len({ways[name]["table_sha256"] for name in names}) == 1
            said = "the same bytes" if is_same else "NOT the same bytes"
            lines.append(f"{label}: the tables of runs of *alone* and *trunks* are {said}.")
    return lines


def log_width(band: dict[str, float]) -> float:
    return math.log(band["upper"] / band["lower"])


@styled()
def draw(record: dict[str, Any], folder: Path) -> None:
    """Evidence per device-second, relative to runs trained alone."""
    studies = [s for s in LABELS if f"{s}:{BASE}" in record["ways"]]
    figure, axes = new_figure(max(len(studies), 1), width=7.2, height=3.0)
    for axis, study in zip(axes, studies, strict=False):
        ways = {
            name.partition(":")[2]: way
            for name, way in record["ways"].items()
            if name.partition(":")[0] == study and name.partition(":")[2] != "cosine"
        }
        law = ways[BASE]["forecaster"]
        base = evidence_per_second(ways[BASE], law)
        ratios = {name: [evidence_per_second(way, law) / base] for name, way in ways.items()}
        draw_bars(axis, LABELS[study], ratios)
    save(figure, folder / "saving")


def draw_bars(axis: Axes, title: str, ratios: dict[str, list[float]]) -> None:
    """A bar per way at the geometric mean of its ratios, a dot for each where there are several."""
    means = [math.exp(np.mean(np.log(values))) for values in ratios.values()]
    bars = axis.barh(list(ratios), means, color=["#999999", *["#0072b2"] * (len(ratios) - 1)])
    axis.bar_label(bars, [f" {mean:.2f}x" for mean in means], fontsize=8)
    for n, values in enumerate(ratios.values()):
        if len(values) > 1:
            axis.plot(values, [n + 0.3] * len(values), "k.", markersize=4)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.25 * max(max(values) for values in ratios.values()))
    axis.set_title(title)
    axis.set_xlabel("evidence per device-second")
    axis.grid(axis="y", visible=False)


@styled()
def draw_frontiers(record: dict[str, Any], folder: Path) -> None:
    """N* and L* against the budget, as runs trained alone and branches of trunks have them."""
    studies = [s for s in LABELS if f"{s}:{BASE}" in record["ways"]]
    figure, axes = new_figure(2 * max(len(studies), 1), width=7.2 * max(len(studies), 1))
    for n, study in enumerate(studies):
        law = record["ways"][f"{study}:{BASE}"]["forecaster"]
        for axis, name in zip(axes[2 * n :], ("n_params_opt", "loss"), strict=False):
            for colour, which in zip(APPROACHES, ("cosine", "trunks", BASE), strict=False):
                way = record["ways"].get(f"{study}:{which}")
                if way is None:
                    continue
                answers, flops = way["answers"][law], way["budgets"]
                band = answers["frontier"][name]
                line = "--" if which == BASE else "-"
                axis.plot(flops, band["value"], line, color=colour, label=which + doubt(answers))
                axis.fill_between(flops, band["lower"], band["upper"], color=colour, alpha=0.2)
            axis.set_xscale("log")
            axis.set_title(f"{LABELS[study]}, {law} surface")
            axis.set_xlabel("training FLOPs")
            budgets = record["ways"][f"{study}:{BASE}"]["budgets"]
            axis.set_xticks(budgets, [scientific(flops) for flops in budgets], fontsize=7)
            axis.set_xticks([], minor=True)
        axes[2 * n].set_yscale("log")
        log_counts(axes[2 * n].yaxis)
        axes[2 * n].set_ylabel("N*, parameters")
        axes[2 * n + 1].set_ylabel("L*, nats per token")
        axes[2 * n].legend()
    save(figure, folder / "saving_frontiers")


def evidence_per_second(way: dict[str, Any], law: str) -> float:
    """1 / (width of ln N* at the target)^2 per device-second: what independent runs add up to."""
    width = log_width(way["answers"][law]["target"]["n_params_opt"])
    return 1 / width**2 / way["device_seconds"]
