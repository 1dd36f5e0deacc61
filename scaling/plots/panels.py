# SPDX-License-Identifier: Apache-2.0
"""Fitted objects + Axes -> Axes.

Every number drawn comes from a table, a Fit or a Frontier. `figures` makes whole figures of these
panels, with notes on what is left out and which fits are doubtful.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from scaling.answers.frontier import Agreement, Frontier
from scaling.approaches.diagnostics import residuals
from scaling.approaches.isoflop_curves import value_at
from scaling.fit import Fit
from scaling.intervals import Estimated, Interval
from scaling.laws.registry import law_named
from scaling.plots.style import (
    approach_styles,
    budget_styles,
    count,
    log_counts,
    log_losses,
    scientific,
)
from scaling.tables.runs import Curves, Runs

Array = np.ndarray
N_LABEL = "parameters"
D_LABEL = "training tokens"
L_LABEL = "loss (nats per token)"


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
    _budget_legend(ax, runs)
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
    ax.set(xscale="log", xlabel=_params_label(fit.runs), ylabel=L_LABEL)
    log_counts(ax.xaxis)
    left = {optimum.budget for optimum in fit.optima if optimum.reason}
    _budget_legend(ax, runs, left_out=left)
    return ax


def plot_frontier(
    axes: Sequence[Axes], frontiers: Sequence[Frontier], fits: Sequence[Fit] = ()
) -> Sequence[Axes]:
    """N*(C) and D*(C) in two panels, with bands; dotted where extrapolated.

    Args:
      axes: two.
      frontiers: one per approach.
      fits: their fits, for the optima of single budgets where an approach has them.
    """
    styles = approach_styles([front.approach for front in frontiers])
    for ax, name in zip(axes, ("n_params_opt", "n_tokens_opt"), strict=True):
        for front in frontiers:
            style, band = styles[front.approach], getattr(front, name)
            ax.fill_between(
                front.flops, band.lower, band.upper, color=style["color"], alpha=0.13, lw=0
            )
            line = {"color": style["color"], "linewidth": 1.6}
            inside = np.where(front.is_extrapolated, np.nan, band.value)
            ax.plot(front.flops, inside, linestyle=style["linestyle"], **line)
            outside = np.where(_widened(front.is_extrapolated), band.value, np.nan)
            ax.plot(front.flops, outside, linestyle=":", **line)
        for fit in fits:
            _mark_optima(ax, fit, name, styles[fit.name])
        ax.set(xscale="log", yscale="log")
        log_counts(ax.yaxis)
    axes[0].set(title="N*(C)", ylabel=f"compute-optimal {N_LABEL}")
    axes[1].set(title="D*(C)", ylabel=f"compute-optimal {D_LABEL}")
    handles = [
        Line2D([], [], color=s["color"], linestyle=s["linestyle"], label=_labelled(front))
        for front, s in zip(frontiers, styles.values(), strict=True)
    ]
    axes[0].legend(handles=handles, loc="upper left")
    return axes


def plot_surface(ax: Axes, fit: Fit, frontier: Frontier) -> Axes:
    """Contours of the fitted loss over parameters and tokens, the runs, and the frontier."""
    runs, law = fit.fitted_runs, law_named(fit.law)
    n_params, n_tokens = _spanned(runs.n_params), _spanned(runs.n_tokens)
    values = [fit.parameters[name] for name in law.names]
    loss = law.loss(values, n_params[None, :], n_tokens[:, None])
    levels = np.exp(np.linspace(np.log(loss.min()), np.log(loss.max()), 14))
    ax.contourf(n_params, n_tokens, loss, levels=levels, cmap="Greys", alpha=0.35)
    lines = ax.contour(n_params, n_tokens, loss, levels=levels, colors="#777777", linewidths=0.6)
    ax.clabel(lines, levels[1::2], fmt="%.2f", fontsize=7)
    for budget, style in budget_styles(runs.budgets).items() if _has_budgets(runs) else ():
        rows = runs.budget == budget
        ax.plot(runs.n_params[rows], runs.n_tokens[rows], **style, linestyle="none", markersize=4.5)
    if not _has_budgets(runs):
        ax.plot(runs.n_params, runs.n_tokens, ".", color="#31688e", markersize=4)
    x, y = frontier.n_params_opt.value, frontier.n_tokens_opt.value
    ax.plot(x, y, color="#d55e00", linewidth=2.2, linestyle=":")
    inside = ~frontier.is_extrapolated
    ax.plot(np.where(inside, x, np.nan), y, color="#d55e00", linewidth=2.2, label="frontier")
    ax.set(xscale="log", yscale="log", xlabel=_params_label(runs), ylabel=D_LABEL)
    ax.set(xlim=(n_params[0], n_params[-1]), ylim=(n_tokens[0], n_tokens[-1]))
    log_counts(ax.xaxis)
    log_counts(ax.yaxis)
    ax.grid(False)
    _budget_legend(ax, runs, more=[Line2D([], [], color="#d55e00", label="efficient frontier")])
    return ax


def plot_residuals(axes: Sequence[Axes], fit: Fit) -> Sequence[Axes]:
    """Residuals of log loss against N, D and C in three panels; grey: one run's scatter."""
    runs, error = fit.fitted_runs, 100.0 * residuals(fit)
    styles = budget_styles(runs.budgets)
    columns = (runs.n_params, runs.n_tokens, runs.flops)
    labels = (_params_label(runs), D_LABEL, flops_label(runs))
    for ax, values, label in zip(axes, columns, labels, strict=True):
        if fit.noise is not None:
            sd = 100.0 * fit.noise.one_run_sd
            ax.axhspan(-sd, sd, color="#dddddd", zorder=0)
        ax.axhline(0.0, color="#444444", linewidth=0.8)
        if _has_budgets(runs):
            for budget, style in styles.items():
                rows = runs.budget == budget
                ax.plot(values[rows], error[rows], **style, linestyle="none", markersize=4)
        else:
            ax.plot(values, error, ".", color="#31688e", markersize=4)
        ax.set(xscale="log", xlabel=label)
    for ax in axes[:2]:
        log_counts(ax.xaxis)
    axes[0].set_ylabel("residual of log loss (%)")
    _budget_legend(axes[-1], runs)
    return axes


def plot_agreement(axes: Sequence[Axes], compared: Agreement) -> Sequence[Axes]:
    """Exponents and optima of the approaches with their intervals, one quantity per panel."""
    at = f"at {scientific(compared.flops)} FLOPs"
    panels = (
        ("exponent a of N*(C)", compared.exponent_a),
        ("exponent b of D*(C)", compared.exponent_b),
        (f"N* {at}", compared.n_params_opt),
        (f"D* {at}", compared.n_tokens_opt),
    )
    styles = approach_styles(compared.approaches)
    height = np.arange(len(compared.approaches))[::-1]
    for ax, (label, row) in zip(axes, panels, strict=True):
        for y, name, certified, found in zip(
            height, compared.approaches, compared.is_certified, row, strict=True
        ):
            _bar(ax, y, found, styles[name], is_hollow=not certified)
        ax.set(xlabel=label, yticks=height, ylim=(-0.6, len(height) - 0.4))
        ax.set_yticklabels([])
        ax.grid(False, axis="y")
        if label.endswith("FLOPs"):
            ax.xaxis.set_major_formatter(count)
        ax.locator_params(axis="x", nbins=4)
    axes[0].set_yticklabels(
        name if ok else f"{name}\n(not certified)"
        for name, ok in zip(compared.approaches, compared.is_certified, strict=True)
    )
    return axes


def plot_forecast(
    axes: Sequence[Axes],
    frontier: Frontier,
    runs: Runs,
    forecasts: Mapping[str, Estimated],
    *,
    flops: float,
    outcome: float | None = None,
) -> Sequence[Axes]:
    """Left: L*(C) with the runs and the new point. Right: forecasts against what came out.

    Args:
      axes: two.
      frontier: of the fit that forecasts.
      runs: those it was fitted to.
      forecasts: by name of the fit.
      flops: of the forecast run.
      outcome: its measured loss in nats per token, None before it is trained.
    """
    left, right = axes
    band = frontier.loss_opt
    left.fill_between(frontier.flops, band.lower, band.upper, color="#0072b2", alpha=0.15, lw=0)
    inside = np.where(frontier.is_extrapolated, np.nan, band.value)
    left.plot(frontier.flops, band.value, ":", color="#0072b2")
    left.plot(frontier.flops, inside, color="#0072b2", label=f"L*(C), {frontier.approach}")
    usable = runs.select(runs.is_ok)
    left.plot(usable.flops, usable.loss_nats, ".", color="#999999", markersize=4, label="runs")
    styles = approach_styles(list(forecasts))
    height = np.arange(len(forecasts))[::-1]
    for y, (name, forecast) in zip(height, forecasts.items(), strict=True):
        _bar(right, y, forecast, styles[name])
    if outcome is not None:
        left.plot(flops, outcome, "*", color="#222222", ms=11, label="measured", zorder=5)
        right.axvline(outcome, color="#222222", linestyle="--", label="measured")
        right.legend(loc="upper right")
    left.set(xscale="log", yscale="log", xlabel=flops_label(runs), ylabel=L_LABEL)
    log_losses(left.yaxis)
    left.legend(loc="upper right")
    right.set(xlabel=L_LABEL, yticks=height, ylim=(-0.7, len(height) - 0.2))
    right.set_yticklabels(list(forecasts))
    right.set_title(f"one run at {scientific(flops)} FLOPs")
    right.grid(False, axis="y")
    return axes


def _bar(
    ax: Axes, y: float, found: Estimated, style: Mapping[str, Any], *, is_hollow: bool = False
) -> None:
    """A number on a horizontal axis, with its interval where that is known."""
    ends = found.interval
    if ends.is_known:
        ax.plot([ends.lower, ends.upper], [y, y], color=style["color"], lw=2)
    face = "white" if is_hollow else style["color"]
    ax.plot(found.value, y, style["marker"], color=style["color"], mfc=face, markersize=7)


def _labelled(front: Frontier) -> str:
    certified = front.status.name == "CONVERGED"
    return front.approach if certified else f"{front.approach}, not certified"


def _minimum(ax: Axes, n_params: float, loss: float, interval: Interval) -> None:
    if interval.is_known:
        ends = [interval.lower, interval.upper]
        ax.plot(ends, [loss, loss], color="#d55e00", linewidth=1.4, zorder=5)
    ax.plot(n_params, loss, "*", color="#d55e00", markersize=10, markeredgecolor="white", zorder=6)


def _mark_optima(ax: Axes, fit: Fit, name: str, style: Mapping[str, object]) -> None:
    """Optima of single budgets: markers with intervals; an envelope as a thin trail of points."""
    interval_name = "interval_n_params" if name == "n_params_opt" else "interval_n_tokens"
    for optimum in fit.optima:
        if optimum.reason:
            continue
        value, interval = getattr(optimum, name), getattr(optimum, interval_name)
        colour = str(style["color"])
        if fit.approach == "envelope":
            ax.plot(optimum.flops, value, ".", color=colour, markersize=3, alpha=0.6)
            continue
        if interval.is_known:
            ax.plot([optimum.flops] * 2, [interval.lower, interval.upper], color=colour, lw=1)
        ax.plot(optimum.flops, value, str(style["marker"]), color=colour, markersize=5)


def _widened(mask: Array) -> Array:
    """The mask and its neighbours, so that a dotted line meets the solid one."""
    wide = mask.copy()
    wide[:-1] |= mask[1:]
    wide[1:] |= mask[:-1]
    return wide


def _spanned(values: Array) -> Array:
    """Points from 0.7 times the smallest to 1.4 times the largest value, evenly in logarithm."""
    return np.geomspace(0.7 * values.min(), 1.4 * values.max(), 160)


def _has_budgets(runs: Runs) -> bool:
    """Whether runs share budgets, so that colour by budget means something."""
    return len(runs.budgets) <= max(12, len(runs) // 3)


def _budget_legend(
    ax: Axes, runs: Runs, *, left_out: set[float] | None = None, more: Sequence[Line2D] = ()
) -> None:
    handles = list(more)
    if _has_budgets(runs):
        for budget, style in budget_styles(runs.budgets).items():
            is_out = budget in (left_out or ())
            label = scientific(budget) + (" (left out)" if is_out else "")
            face = "none" if is_out else style["color"]
            handle = Line2D([], [], **style, linestyle="none", markerfacecolor=face, label=label)
            handles.insert(0, handle)
    if handles:
        # Beside the axes: inside, it would hide runs of one end of the grid.
        title = "FLOPs" if _has_budgets(runs) else None
        columns = 1 + (len(handles) - 1) // 14
        ax.legend(
            handles=handles,
            title=title,
            alignment="left",
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            ncols=columns,
        )


def flops_label(runs: Runs) -> str:
    """Axis label of compute, naming the FLOP convention."""
    return f"training FLOPs ({runs.flops_convention})"


def _params_label(runs: Runs) -> str:
    return f"{N_LABEL} ({runs.params_convention.replace('_', '-')})"
