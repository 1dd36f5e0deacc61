# SPDX-License-Identifier: Apache-2.0
"""IsoFLOP curves: losses of a budget over sizes, its curve and its minimum."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from scaling.answers.best_size import BestSize
from scaling.approaches.isoflop.curves import value_at
from scaling.fit import Fit
from scaling.intervals import Interval
from scaling.plots.labels import budget_legend, label_losses, params_label
from scaling.plots.style import budget_styles, log_counts

_MINIMUM = "#d55e00"


def plot_isoflop(ax: Axes, fit: Fit | BestSize) -> Axes:
    """Loss against size at each budget, with the fitted curve and its minimum.

    Where curves were fitted together, the parabola of each budget by itself is dotted beside it.
    Budgets left out of the power laws are drawn hollow and dotted.
    """
    styles = budget_styles([optimum.budget for optimum in fit.optima])
    runs = fit.runs.select(fit.runs.is_ok)
    for optimum in fit.optima:
        style, rows = styles[optimum.budget], runs.budget == optimum.budget
        is_used = not optimum.reason
        ax.plot(
            runs.n_params[rows],
            runs.loss_nats[rows],
            **style,
            linestyle="none",
            markersize=4.5,
            markerfacecolor=style["color"] if is_used else "none",
            markeredgewidth=0.8,
            alpha=0.8,
        )
        kinds = ((fit.settings["curve"], optimum.curve), ("parabola", optimum.own_curve))
        for (kind, curve), line in zip(kinds, ("-" if is_used else ":", ":"), strict=True):
            if curve:
                log_n = np.log(runs.n_params[rows])
                x = np.linspace(log_n.min(), log_n.max(), 121)
                ax.plot(np.exp(x), value_at(kind, curve, x), line, color=style["color"])
        if is_used:
            _minimum(ax, optimum.n_params_opt, optimum.loss_opt, optimum.interval_n_params)
    ax.set(xscale="log", xlabel=params_label(fit.runs))
    label_losses(ax, fit.runs.loss_name, fit.runs.bits_per_nat)
    log_counts(ax.xaxis)
    left = {optimum.budget for optimum in fit.optima if optimum.reason}
    more = []
    if len(left) < len(fit.optima):
        more = [Line2D([], [], color=_MINIMUM, marker="*", markersize=9, label="fitted minimum")]
    if any(optimum.own_curve for optimum in fit.optima):
        more.append(Line2D([], [], color="#666666", linestyle=":", label="parabola by itself"))
    budget_legend(ax, runs, left_out=left, more=more)
    return ax


def _minimum(ax: Axes, n_params: float, loss: float, interval: Interval) -> None:
    if interval.is_known:
        ends = [interval.lower, interval.upper]
        ax.plot(ends, [loss, loss], color=_MINIMUM, linewidth=1.4, zorder=5)
    ax.plot(n_params, loss, "*", color=_MINIMUM, markersize=10, markeredgecolor="white", zorder=6)
