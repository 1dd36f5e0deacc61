# SPDX-License-Identifier: Apache-2.0
"""Axes with a mark per run: training curves, isoFLOP curves, residuals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from scaling.approaches.diagnostics import residuals
from scaling.approaches.isoflop_curves import value_at
from scaling.fit import Fit
from scaling.intervals import Interval
from scaling.plots.labels import (
    D_LABEL,
    L_LABEL,
    budget_legend,
    flops_label,
    has_budgets,
    params_label,
)
from scaling.plots.style import budget_styles, log_counts, log_losses
from scaling.tables.runs import Curves, Runs


def plot_curves(ax: Axes, curves: Curves, runs: Runs) -> Axes:
    """Validation loss along training, coloured by budget; a marker ends each run."""
    styles = budget_styles(runs.budgets)
    for i in np.flatnonzero(runs.is_ok):
        curve, style = curves.of(str(runs.run_id[i])), styles[float(runs.budget[i])]
        keep = curve.n_tokens > 0
        flops = curve.n_tokens[keep] * runs.flops_per_token[i]
        ax.plot(flops, curve.loss_nats[keep], color=style["color"], linewidth=0.8, alpha=0.75)
        ax.plot(runs.flops[i], runs.loss_nats[i], **style, markersize=3.5, linestyle="none")
    ax.set(xscale="log", yscale="log", xlabel=flops_label(runs), ylabel=L_LABEL)
    log_losses(ax.yaxis)
    budget_legend(ax, runs)
    return ax


def plot_isoflop(ax: Axes, fit: Fit) -> Axes:
    """Loss against size at each budget, with the fitted curve and its minimum.

    Budgets left out of the power laws are drawn hollow and dashed.
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
        if optimum.curve:
            log_n = np.log(runs.n_params[rows])
            x = np.linspace(log_n.min(), log_n.max(), 121)
            loss = value_at(fit.settings["curve"], optimum.curve, x)
            ax.plot(np.exp(x), loss, color=style["color"], linestyle="-" if is_used else ":")
        if is_used:
            _minimum(ax, optimum.n_params_opt, optimum.loss_opt, optimum.interval_n_params)
    ax.set(xscale="log", xlabel=params_label(fit.runs), ylabel=L_LABEL)
    log_counts(ax.xaxis)
    left = {optimum.budget for optimum in fit.optima if optimum.reason}
    budget_legend(ax, runs, left_out=left)
    return ax


def plot_residuals(axes: Sequence[Axes], fit: Fit) -> Sequence[Axes]:
    """Residuals of log loss against N, D and C in three panels; grey: one run's scatter."""
    runs, error = fit.fitted_runs, 100.0 * residuals(fit)
    styles = budget_styles(runs.budgets)
    columns = (runs.n_params, runs.n_tokens, runs.flops)
    labels = (params_label(runs), D_LABEL, flops_label(runs))
    for ax, values, label in zip(axes, columns, labels, strict=True):
        if fit.noise is not None:
            sd = 100.0 * fit.noise.one_run_sd
            ax.axhspan(-sd, sd, color="#dddddd", zorder=0)
        ax.axhline(0.0, color="#444444", linewidth=0.8)
        if has_budgets(runs):
            for budget, style in styles.items():
                rows = runs.budget == budget
                ax.plot(values[rows], error[rows], **style, linestyle="none", markersize=4)
        else:
            ax.plot(values, error, ".", color="#31688e", markersize=4)
        ax.set(xscale="log", xlabel=label)
    for ax in axes[:2]:
        log_counts(ax.xaxis)
    axes[0].set_ylabel("residual of log loss (%)")
    budget_legend(axes[-1], runs)
    return axes


def _minimum(ax: Axes, n_params: float, loss: float, interval: Interval) -> None:
    if interval.is_known:
        ends = [interval.lower, interval.upper]
        ax.plot(ends, [loss, loss], color="#d55e00", linewidth=1.4, zorder=5)
    ax.plot(n_params, loss, "*", color="#d55e00", markersize=10, markeredgecolor="white", zorder=6)
