# SPDX-License-Identifier: Apache-2.0
"""Axes of laws and answers: frontier, surface, agreement, forecast.

Every number drawn comes from a table, a Fit or a Frontier. `figures` makes whole figures of these
panels, with notes on what is left out and which fits are doubtful.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from scaling.answers.agreement import Agreement
from scaling.answers.frontier import Frontier
from scaling.fit import Fit
from scaling.intervals import Estimated
from scaling.laws.registry import law_named
from scaling.plots.labels import (
    N_LABEL,
    budget_legend,
    flops_label,
    has_budgets,
    label_losses,
    loss_label,
    params_label,
    tokens_label,
)
from scaling.plots.style import (
    approach_styles,
    budget_styles,
    count,
    log_counts,
    log_flops,
    log_losses,
    scientific,
)
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs

ONE_BUDGET = "at one budget"


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
            line = {"color": style["color"]}
            inside = np.where(front.is_extrapolated, np.nan, band.value)
            ax.plot(front.flops, inside, linestyle=style["linestyle"], **line)
            outside = np.where(_widened(front.is_extrapolated), band.value, np.nan)
            ax.plot(front.flops, outside, linestyle=":", **line)
        for fit in fits:
            _mark_optima(ax, fit, name, styles[fit.name])
        ax.set(xscale="log", yscale="log")
        log_flops(ax.xaxis)
        log_counts(ax.yaxis)
    axes[0].set(title="N*(C)", ylabel=f"compute-optimal {N_LABEL}")
    axes[1].set(
        title="D*(C)", ylabel=f"compute-optimal {tokens_label(fits[0].runs if fits else None)}"
    )
    handles = [
        Line2D([], [], color=s["color"], linestyle=s["linestyle"], label=_labelled(front))
        for front, s in zip(frontiers, styles.values(), strict=True)
    ]
    if any(not optimum.reason for fit in fits for optimum in fit.optima):
        handles.append(Line2D([], [], color="#777777", marker=".", linestyle="", label=ONE_BUDGET))
    _legend_below(axes, handles)
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
    ax.clabel(lines, levels[1::2], fmt="%.2f")
    for budget, style in budget_styles(runs.budgets).items() if has_budgets(runs) else ():
        rows = runs.budget == budget
        ax.plot(runs.n_params[rows], runs.n_tokens[rows], **style, linestyle="none", markersize=4.5)
    if not has_budgets(runs):
        ax.plot(runs.n_params, runs.n_tokens, ".", color="#31688e", markersize=4)
    x, y = frontier.n_params_opt.value, frontier.n_tokens_opt.value
    ax.plot(x, y, color="#d55e00", linewidth=2.2, linestyle=":")
    inside = ~frontier.is_extrapolated
    ax.plot(np.where(inside, x, np.nan), y, color="#d55e00", linewidth=2.2, label="frontier")
    ax.set(xscale="log", yscale="log", xlabel=params_label(runs), ylabel=tokens_label(runs))
    ax.set(xlim=(n_params[0], n_params[-1]), ylim=(n_tokens[0], n_tokens[-1]))
    log_counts(ax.xaxis)
    log_counts(ax.yaxis)
    ax.grid(False)
    budget_legend(ax, runs, more=[Line2D([], [], color="#d55e00", label="efficient frontier")])
    return ax


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
    handles = left.plot(
        frontier.flops, inside, color="#0072b2", label=f"L*(C), {frontier.approach}"
    )
    usable = runs.select(runs.is_ok)
    handles += left.plot(
        usable.flops, usable.loss_nats, ".", color="#999999", markersize=4, label="runs"
    )
    styles = approach_styles(list(forecasts))
    height = np.arange(len(forecasts))[::-1]
    for y, (name, forecast) in zip(height, forecasts.items(), strict=True):
        _bar(right, y, forecast, styles[name])
    if outcome is not None:
        handles += left.plot(
            flops, outcome, "*", color="#222222", ms=11, label="measured", zorder=5
        )
        label = "measured, at the right"
        handles.append(right.axvline(outcome, color="#222222", linestyle="--", label=label))
    left.set(xscale="log", yscale="log", xlabel=flops_label(runs))
    label_losses(left, runs.loss_name, runs.bits_per_nat)
    log_flops(left.xaxis)
    log_losses(left.yaxis)
    _legend_below(axes, handles)
    right.set(xlabel=loss_label(runs.loss_name), yticks=height, ylim=(-0.7, len(height) - 0.2))
    right.set_yticklabels(list(forecasts))
    right.set_title(f"one run at {scientific(flops)} FLOPs")
    right.grid(False, axis="y")
    return axes


def _legend_below(axes: Sequence[Axes], handles: Sequence[Artist]) -> None:
    """Below both panels: inside one of them it would hide runs or optima."""
    axes[0].figure.legend(handles=handles, loc="outside lower center", ncols=4)


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
