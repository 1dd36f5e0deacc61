# SPDX-License-Identifier: Apache-2.0
"""Panels of the figures that a reader explores: isoFLOP curves, frontier, forecast, training.

No number is made here: runs come from the table; curves, optima and bands from the fits.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from bokeh.models import CDSView, ColumnDataSource, GlyphRenderer, IndexFilter
from bokeh.plotting import figure
from matplotlib.colors import to_hex

from experiments.report import rows
from experiments.report.build import JudgedForecast, Report
from experiments.report.fits.fit_once import APPROACHES
from experiments.report.frontier_table import frontier_rows
from experiments.report.page.parts import (
    COUNT,
    PLAIN,
    POWER,
    SELECTED,
    Switches,
    legend,
    new_panel,
    read,
    read_runs,
    short,
)
from scaling.answers.frontier import Frontier
from scaling.approaches.isoflop.curves import value_at
from scaling.fit import Fit, Optimum
from scaling.intervals import Estimated
from scaling.plots.style import approach_styles, budget_styles
from scaling.shown import counted
from scaling.tables.units import bits_words, power

MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "hex", "star")
DASHES = ("solid", "dashed", "dotdash", "dotted")
MINIMUM, OUTCOME, RUNS = "#d55e00", "#222222", "#8a94a0"


def isoflop_panel(report: Report, runs: ColumnDataSource, switches: Switches) -> figure:
    """Losses over sizes at each budget; where they are fitted, the curve and its minimum."""
    fit = report.analysis.fits.get("isoflop") or report.analysis.best
    optima = {} if fit is None else {optimum.budget: optimum for optimum in fit.optima}
    panel = new_panel(("parameters N", COUNT), _loss(report), y_axis_type="linear")
    points, entries, stars = [], {}, []
    for budget, style, view in _by_budget(runs):
        optimum = optima.get(budget)
        is_out = optimum is not None and bool(optimum.reason)
        points.append(
            panel.scatter("n_params", "loss_nats", source=runs, view=view, size=8, **style,
                          fill_alpha=0.0 if is_out else 0.75, **SELECTED)
        )  # fmt: skip
        name = power(budget)
        entries[name + " (left out)" * is_out] = points[-1]
        drawn = [points[-1]]
        if fit is not None and optimum is not None and optimum.curve:
            sizes = runs.data["n_params"][view.filter.indices]
            log_n = np.linspace(np.log(sizes.min()), np.log(sizes.max()), 121)
            loss = value_at(fit.settings["curve"], optimum.curve, log_n)
            lines = [(loss, 2, "dashed" if is_out else "solid")]
            if optimum.own_curve:
                lines.append((value_at("parabola", optimum.own_curve, log_n), 1, "dotted"))
            drawn += [
                panel.line(short(np.exp(log_n)), short(y), line_width=width, line_dash=dash,
                           line_color=style["color"])
                for y, width, dash in lines
            ]  # fmt: skip
        if optimum is not None and not is_out:
            star, *interval = _minimum(panel, optimum)
            stars.append(star)
            drawn += [star, *interval]
        switches.add(name, drawn)
    read_runs(panel, points)
    read(panel, stars, ("C asked", "N*", "D*", "loss"))
    if stars:
        # Of its own, without a place: a click on it hides no budget.
        entries["fitted minimum"] = panel.scatter(
            [math.nan], [math.nan], marker="star", size=12, color=MINIMUM
        )
    legend(panel, entries, "FLOPs")
    return panel


def _minimum(panel: figure, optimum: Optimum) -> list[GlyphRenderer]:
    """The lowest point of a fitted curve, and its interval where that is known."""
    n_params = Estimated(value=optimum.n_params_opt, interval=optimum.interval_n_params)
    n_tokens = Estimated(value=optimum.n_tokens_opt, interval=optimum.interval_n_tokens)
    source = ColumnDataSource(
        {
            "C asked": [power(optimum.budget)],
            "N*": [counted(n_params)],
            "D*": [counted(n_tokens)],
            "loss": [f"{optimum.loss_opt:.4f}"],
            "x": [optimum.n_params_opt],
            "y": [optimum.loss_opt],
            "lower": [n_params.interval.lower],
            "upper": [n_params.interval.upper],
        }
    )
    drawn = []
    if n_params.interval.is_known:
        drawn.append(
            panel.segment("lower", "y", "upper", "y", source=source, color=MINIMUM, line_width=2)
        )
    star = panel.scatter("x", "y", source=source, marker="star", size=17, line_color="white")
    star.glyph.fill_color = MINIMUM
    return [star, *drawn]


def frontier_panels(report: Report, switches: Switches) -> list[figure]:
    """N*(C) and D*(C) by every approach that gave an answer; none where none did."""
    if not report.analysis.fits:
        return []
    made = []
    for name, label in (("n_params_opt", "parameters N*"), ("n_tokens_opt", f"{report.unit}s D*")):
        panel = new_panel(_flops(report), (label, COUNT))
        legend(panel, _approaches(panel, report, name, switches))
        made.append(panel)
    return made


def forecast_panel(report: Report, runs: ColumnDataSource, switches: Switches) -> figure:
    """L*(C) by every approach, the runs, and the forecasts beside what came out."""
    panel = new_panel(_flops(report), _loss(report))
    points = panel.scatter("flops", "loss_nats", source=runs, size=5, color=RUNS, **SELECTED)
    read_runs(panel, [points])
    entries = {**_approaches(panel, report, "loss_opt", switches), "runs": points}
    for judged in report.forecasts:
        made, told = judged.forecast, _told_of_forecast(report, judged)
        at = {"x": [made.budget], **{name: [text] for name, text in told.items()}}
        styles, marks = approach_styles(list(made.forecasts)), []
        for law, guess in made.forecasts.items():
            lower, upper = (math.nan if end is None else end for end in (guess.lower, guess.upper))
            source = ColumnDataSource(at | {"y": [guess.value], "lower": [lower], "upper": [upper]})
            colour = styles[law]["color"]
            bar = panel.segment("x", "lower", "x", "upper", source=source, line_width=3)
            bar.glyph.line_color, bar.glyph.line_alpha = colour, 0.6
            marks.append(
                panel.scatter("x", "y", source=source, marker="diamond", size=10, color=colour)
            )
            entries[f"forecast ({law})"] = marks[-1]
            switches.add(f"forecast ({law})", [marks[-1], bar])
        if judged.outcome is not None:
            source = ColumnDataSource(at | {"y": [judged.outcome]})
            marks.append(
                panel.scatter("x", "y", source=source, marker="star", size=14, color=OUTCOME)
            )
            entries["came out"] = marks[-1]
            switches.add("came out", marks[-1:])
        read(panel, marks, told)
    legend(panel, entries)
    return panel


def _told_of_forecast(report: Report, judged: JudgedForecast) -> dict[str, str]:
    """What each mark of a forecast says: all of it, for they lie on one another."""
    told = rows.forecast_rows(judged, report.unit, report.bits_per_nat)
    first, interval = told[0], f"{judged.forecast.level:.0%} interval"
    names = ("FLOPs", "parameters", f"{report.unit}s", "came out")
    return {
        **{name: first[name] for name in names},
        **{row["law"]: f"{row['forecast']} ({row[interval]})" for row in told},
        **({"conformal": first["conformal"]} if judged.forecast.conformal else {}),
    }


def curves_panel(report: Report, runs: ColumnDataSource, switches: Switches) -> figure:
    """Validation loss along training; a marker ends each run."""
    panel = new_panel(_flops(report), _loss(report))
    entries = {}
    for budget, style, view in _by_budget(runs):
        line = panel.multi_line(
            "curve_flops", "curve_loss", source=runs, view=view, line_color=style["color"],
            line_alpha=0.7, nonselection_line_alpha=0.12, selection_line_width=3,
        )  # fmt: skip
        end = panel.scatter(
            "flops", "loss_nats", source=runs, view=view, size=6, **style, **SELECTED
        )
        name = power(budget)
        entries[name] = end
        switches.add(name, [end, line])
    read_runs(panel, list(entries.values()))
    legend(panel, entries, "FLOPs")
    return panel


def _approaches(
    panel: figure, report: Report, name: str, switches: Switches
) -> dict[str, GlyphRenderer]:
    """Draws the band ``name`` of every frontier; what the legend shows of them."""
    entries, marks = {}, []
    columns: list[str] = []
    for approach, dash in zip(APPROACHES, DASHES, strict=True):
        if approach not in report.analysis.fits:
            continue
        fit, front = report.analysis.fits[approach], report.analysis.frontiers[approach]
        colour = approach_styles([fit.name])[fit.name]["color"]
        columns = list(_told(report, front)[0])
        source = _frontier_source(front, name, report, colour)
        line = panel.line("x", "y", source=source, line_width=2, line_color=colour)
        line.glyph.line_dash = dash
        band = panel.varea("x", "lower", "upper", source=source, fill_color=colour, fill_alpha=0.12)
        mark = panel.scatter("x", "y", source=source, size=8, line_color=colour, fill_color="fill")
        marks.append(mark)
        label = fit.name if fit.is_certified else f"{fit.name}, not certified"
        entries[label] = line
        switches.add(approach, [line, band, mark, *_optima(panel, fit, name, colour)])
    read(panel, marks, ("approach", *columns))
    return entries


def _optima(panel: figure, fit: Fit, name: str, colour: str) -> list[GlyphRenderer]:
    """Optima of single budgets, where an approach has them."""
    used = [optimum for optimum in fit.optima if not optimum.reason]
    if name == "loss_opt" or not used:
        return []
    x, y = [o.flops for o in used], [getattr(o, name) for o in used]
    return [panel.scatter(short(x), short(y), size=4, color=colour, alpha=0.5)]


def _frontier_source(front: Frontier, name: str, report: Report, colour: str) -> ColumnDataSource:
    """A band to draw, at the budgets where it is known, and the frontier's rows to read."""
    band = getattr(front, name)
    known = np.flatnonzero(np.isfinite(band.value))
    told = _told(report, front)
    ends = {"lower": band.lower, "upper": band.upper}
    return ColumnDataSource(
        {
            "approach": [front.approach] * len(known),
            **{column: [told[i][column] for i in known] for column in told[0]},
            "x": short(front.flops[known]),
            "y": short(band.value[known]),
            **{
                end: short(np.where(np.isfinite(values), values, band.value)[known])
                for end, values in ends.items()
            },
            "fill": ["white" if front.is_extrapolated[i] else colour for i in known],
        }
    )


def _told(report: Report, front: Frontier) -> list[dict[str, str]]:
    return frontier_rows(front, report.unit, report.loss_unit, report.bits_per_nat)


def _by_budget(runs: ColumnDataSource) -> Iterator[tuple[float, dict[str, Any], CDSView]]:
    """Each budget, how its runs look, and which they are."""
    budgets = runs.data["budget"]
    for i, (budget, style) in enumerate(budget_styles(np.unique(budgets)).items()):
        look = {"color": to_hex(style["color"]), "marker": MARKERS[i % len(MARKERS)]}
        rows_of = np.flatnonzero(budgets == budget).tolist()
        yield budget, look, CDSView(filter=IndexFilter(indices=rows_of))


def _loss(report: Report) -> tuple[str, str]:
    factor = report.bits_per_nat
    # A second axis would take a quarter of a narrow screen.
    name = bits_words(report.loss_unit)
    bits = "" if factor is None else f" (times {factor:.4g}: {name})"
    return f"loss, {report.loss_unit}{bits}", PLAIN


def _flops(report: Report) -> tuple[str, str]:
    return f"training FLOPs ({report.analysis.runs.flops_convention})", POWER
