# SPDX-License-Identifier: Apache-2.0
"""Basins of loss over the learning rate, with their optima."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from scaling.hyperparameters.learning_rate_basins import Basin
from scaling.plots.style import budget_styles, caption, new_figure, styled
from scaling.tables.units import count

# Nats above the highest minimum at which a panel ends: rates that blow up would flatten the rest.
_ROOM = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The basin of one width at one run length."""

    d_model: int
    n_tokens: int
    basin: Basin


def plot_basins(ax: Axes, lines: Sequence[Line]) -> Axes:
    """Losses (marks), fitted curves, and optima with their intervals (bars), a colour per width."""
    styles = budget_styles([line.d_model for line in lines])
    for line in lines:
        _plot(ax, line.basin, f"d_model {line.d_model}", **styles[line.d_model])
    ax.axvline(1.0, color="#444444", linestyle="--", linewidth=0.8)
    rates = lines[0].basin.rates
    ax.set(xscale="log", xlabel="factor on the recipe's learning rate")
    ax.set_xticks(rates, [f"{rate:g}" if rate >= 1 else f"1/{1 / rate:.3g}" for rate in rates])
    ax.xaxis.set_minor_locator(NullLocator())
    near_lowest(ax, [line.basin.best_loss for line in lines])
    ax.set_title(f"{count(lines[0].n_tokens)} tokens")
    ax.legend()
    return ax


def near_lowest(ax: Axes, losses: Sequence[float]) -> None:
    """Ends the axis of losses not far above the lowest losses of its lines."""
    top = np.max([loss for loss in losses if np.isfinite(loss)], initial=-np.inf) + _ROOM
    if np.isfinite(top) and ax.get_ylim()[1] > top:
        ax.set_ylim(top=top)


def _plot(ax: Axes, basin: Basin, label: str, *, color: object, marker: str) -> None:
    ax.plot(basin.rates, basin.losses, marker, color=color, markersize=4, label=label)
    if basin.curve is None:
        return
    x = np.linspace(basin.curve.x[0], basin.curve.x[-1], 61)
    ax.plot(basin.curve.size(x), basin.curve.loss(x), color=color)
    bar = [[basin.best_interval.lower], [basin.best_interval.upper]]
    if basin.best_interval.is_known:
        ax.plot(np.ravel(bar), [basin.best_loss] * 2, color=color, linewidth=4, alpha=0.35)
    ax.plot(basin.best, basin.best_loss, "|", color=color, markersize=12, markeredgewidth=2)


@styled()
def figure_basins(panels: Sequence[Sequence[Line]], notes: Sequence[str]) -> Figure:
    """One panel per run length, a line per width."""
    figure, axes = new_figure(len(panels))
    for ax, lines in zip(axes, panels, strict=True):
        plot_basins(ax, lines)
    axes[0].set_ylabel("loss, nats per token")
    legend = "bars: interval of the best rate; dashed: the recipe's own rate."
    caption(figure, [legend, *notes])
    return figure
