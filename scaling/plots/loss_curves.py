# SPDX-License-Identifier: Apache-2.0
"""Losses against a setting that a study varies, against size where nothing is fitted, and against
how much of the context a prediction sees."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from scaling.plots.labels import budget_legend, label_losses, loss_label, params_label
from scaling.plots.learning_rate_basins import near_lowest
from scaling.plots.style import (
    budget_styles,
    caption,
    log_counts,
    new_figure,
    scientific,
    setting_styles,
    styled,
)
from scaling.tables.loss_curves import ContextCurve, LossCurve
from scaling.tables.runs import Runs
from scaling.tables.units import NATS, bits_words, count

_PER_ROW = 3
_MOST_LABELS = 5  # Of a narrow axis.
_LINE: Any = {"markersize": 3.5, "linewidth": 1.0}


@styled()
def figure_settings(
    sweeps: Mapping[str, Sequence[LossCurve]],
    loss_unit: str = NATS,
    bits_per_nat: float | None = None,
) -> Figure:
    """A panel per number that was varied and budget, a line per size, or per setting that has a
    name; a star marks the lowest loss of a line.

    Args:
      sweeps: by the name of the number, curves over it at each (budget, n_params), or of each
        setting at each budget; by ascending budgets.
      bits_per_nat: as Runs have it.
    """
    panels = [
        (name, list(curves))
        for name, all_curves in sweeps.items()
        for _, curves in itertools.groupby(all_curves, key=lambda curve: curve.at["budget"])
    ]
    n_columns = min(len(panels), _PER_ROW)
    n_rows = -(-len(panels) // n_columns)
    figure, axes = new_figure(n_columns, n_rows=n_rows, height=2.3 * n_rows + 0.5)
    every = [curve for _, curves in panels for curve in curves]
    names = list(dict.fromkeys(curve.setting for curve in every))
    sizes = sorted({curve.at["n_params"] for curve in every if not curve.setting})
    styles: dict[Any, dict[str, Any]] = budget_styles(sizes) if sizes else setting_styles(names)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    for ax, (name, curves) in zip(axes, panels, strict=False):
        _plot_setting(ax, name, curves, styles)
    for ax in axes[::n_columns]:
        ax.set_ylabel(loss_label(loss_unit))
    handles = [
        Line2D([], [], **style, **_LINE, label=count(of) if sizes else of)
        for of, style in styles.items()
    ]
    star = Line2D([], [], linestyle="none", marker="*", color="#444444", markersize=10)
    star.set_label("lowest")
    handles.append(star)
    title = "parameters" if sizes else None
    figure.legend(handles=handles, title=title, loc="outside lower center", ncols=7 if sizes else 4)
    said = ["means over repeats; nothing is fitted."]
    if not sizes:
        said.append("of each setting its best size at each value.")
    if bits_per_nat is not None:
        said.append(f"{loss_unit} times {bits_per_nat:.4g} are {bits_words(loss_unit)}.")
    caption(figure, said)
    return figure


@styled()
def figure_vocabulary(curves: Sequence[LossCurve], loss_unit: str) -> Figure:
    """Losses over the size of the vocabulary, a line per budget; a star marks the lowest.

    Args:
      curves: over the size of the vocabulary, at each budget the lowest mean of any network.
    """
    figure, (ax,) = new_figure()
    styles = budget_styles(sorted({curve.at["budget"] for curve in curves}))
    for curve in curves:
        budget = curve.at["budget"]
        ax.plot(curve.values, curve.losses, **styles[budget], **_LINE, label=scientific(budget))
        _star(ax, curve, styles[budget])
    ticks = np.unique(np.concatenate([curve.values for curve in curves]))
    ax.set(xscale="log", xlabel="vocabulary, tokens", ylabel=loss_label(loss_unit))
    ax.set_xticks(ticks, [f"{value:g}" for value in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_title("Loss against vocabulary at fixed compute")
    ax.legend(title="FLOPs", loc="center left", bbox_to_anchor=(1.0, 0.5))
    caption(figure, ["star: lowest of a budget; of each vocabulary its best size, means of seeds."])
    return figure


def _plot_setting(
    ax: Axes, name: str, curves: Sequence[LossCurve], styles: Mapping[Any, dict[str, Any]]
) -> None:
    for curve in curves:
        style = styles[curve.setting or curve.at["n_params"]]
        ax.plot(curve.values, curve.losses, **style, **_LINE)
        _star(ax, curve, style)
    values = np.unique(np.concatenate([curve.values for curve in curves]))
    if values[0] > 0:
        ax.set_xscale("log")
    labelled = values[:: 1 + (len(values) - 1) // _MOST_LABELS]
    ax.set_xticks(labelled, [f"{value:.3g}" for value in labelled])
    ax.xaxis.set_minor_locator(NullLocator())
    # The whole course is what settings with a name, and lines without a basin, show.
    if not curves[0].setting and not all(curve.is_at_edge for curve in curves):
        near_lowest(ax, [one.losses[one.lowest] for one in curves if one.lowest is not None])
    ax.set(xlabel=name.rpartition(".")[2].replace("_", " "))
    ax.set_title(f"{scientific(curves[0].at['budget'])} FLOPs")


def _star(ax: Axes, curve: LossCurve, style: Mapping[str, Any]) -> None:
    """At the lowest loss of a curve."""
    if curve.lowest is not None:
        at = (curve.values[curve.lowest], curve.losses[curve.lowest])
        ax.plot(*at, "*", color=style["color"], markersize=11, markeredgecolor="white")


@styled()
def figure_sizes(runs: Runs, curves: Sequence[LossCurve]) -> Figure:
    """Losses of each budget over sizes: every run, and a line through the means of a size.

    Args:
      curves: over n_params, at each budget.
    """
    figure, (ax,) = new_figure()
    styles = budget_styles(runs.budgets)
    for curve in curves:
        budget = curve.at["budget"]
        ax.plot(curve.values, curve.losses, color=styles[budget]["color"], linewidth=0.8)
        rows = runs.is_ok & (runs.budget == budget)
        ax.plot(
            runs.n_params[rows], runs.loss_nats[rows], **styles[budget], markersize=4.5,
            linestyle="none", alpha=0.8,
        )  # fmt: skip
    ax.set(xscale="log", xlabel=params_label(runs))
    label_losses(ax, runs.loss_name, runs.bits_per_nat)
    log_counts(ax.xaxis)
    ax.set_title("Loss against size at fixed compute")
    budget_legend(ax, runs)
    caption(figure, ["lines: means of a size; no curve is fitted.", *runs.findings])
    return figure


@styled()
def figure_contexts(curves: Sequence[ContextCurve]) -> Figure:
    """A line per run, over the tokens seen; a point stands at the middle of its bin."""
    figure, (ax,) = new_figure()
    budgets = budget_styles(sorted({curve.budget for curve in curves}))
    settings = setting_styles(list(dict.fromkeys(curve.label for curve in curves)))
    of_budgets = len(settings) == 1
    for curve in curves:
        middle = np.sqrt(np.array(curve.least_seen) * np.array(curve.most_seen))
        style = budgets[curve.budget] if of_budgets else settings[curve.label]
        label = scientific(curve.budget) if of_budgets else curve.label
        ax.plot(middle, curve.losses, **style, markersize=3.5, linewidth=1.0, label=label)
    ax.set(xscale="log", xlabel="tokens seen of the window", ylabel=loss_label(NATS))
    log_counts(ax.xaxis)
    ax.set_title("Loss by position in the context")
    title = "FLOPs" if of_budgets else None
    ax.legend(title=title, loc="center left", bbox_to_anchor=(1.0, 0.5))
    what = "at each budget" if of_budgets else "of each setting at its largest budget"
    caption(figure, [f"the run with the lowest loss {what}; bins by powers of two."])
    return figure
