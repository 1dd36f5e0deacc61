# SPDX-License-Identifier: Apache-2.0
"""Whole figures: panels, and a caption of what is left out and which fits are doubtful."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from scaling.answers.agreement import Agreement
from scaling.answers.best_size import BestSize
from scaling.answers.frontier import Frontier
from scaling.fit import Fit
from scaling.intervals import Estimated
from scaling.laws.registry import law_named
from scaling.plots.frontier_and_surface import (
    plot_agreement,
    plot_forecast,
    plot_frontier,
    plot_surface,
)
from scaling.plots.isoflop import plot_isoflop
from scaling.plots.labels import budget_legend, flops_label, label_losses, titled
from scaling.plots.residuals import plot_residuals
from scaling.plots.style import (
    budget_styles,
    caption,
    formula_text,
    log_flops,
    log_losses,
    new_figure,
    styled,
)
from scaling.tables.runs import Curves, Runs


@styled()
def figure_curves(curves: Curves, runs: Runs) -> Figure:
    """Validation loss along training, coloured by budget; a marker ends each run."""
    figure, (ax,) = new_figure()
    styles = budget_styles(runs.budgets)
    for i in np.flatnonzero(runs.is_ok):
        curve, style = curves.of(str(runs.run_id[i])), styles[float(runs.budget[i])]
        keep = curve.n_tokens > 0
        flops = curve.n_tokens[keep] * runs.flops_per_token[i]
        ax.plot(flops, curve.loss_nats[keep], color=style["color"], linewidth=0.8, alpha=0.75)
        ax.plot(runs.flops[i], runs.loss_nats[i], **style, markersize=3.5, linestyle="none")
    ax.set(xscale="log", yscale="log", xlabel=flops_label(runs))
    label_losses(ax, runs.loss_name, runs.bits_per_nat)
    log_flops(ax.xaxis)
    log_losses(ax.yaxis)
    budget_legend(ax, runs)
    ax.set_title("Training curves")
    ends = "a marker is the loss after training: it may be measured on more tokens than the curve."
    caption(figure, [ends, *(runs.findings or ["all runs are shown."])])
    return figure


@styled()
def figure_isoflop(fit: Fit) -> Figure:
    """isoFLOP curves with parabolas and minima."""
    figure, (ax,) = new_figure()
    plot_isoflop(ax, fit).set_title(titled("Loss against size at fixed compute", fit))
    caption(figure, _notes([fit]))
    return figure


@styled()
def figure_best_size(best: BestSize) -> Figure:
    """Loss against size at the one budget there is, with its parabola and its minimum."""
    figure, (ax,) = new_figure()
    plot_isoflop(ax, best).set_title("Loss against size at fixed compute")
    caption(figure, [best.sentence(), *best.runs.findings])
    return figure


@styled()
def figure_frontier(frontiers: Sequence[Frontier], fits: Sequence[Fit]) -> Figure:
    """N*(C) and D*(C) of the approaches."""
    figure, axes = new_figure(2, height=3.0)
    plot_frontier(axes, frontiers, fits)
    for ax in axes:
        ax.set_xlabel(flops_label(fits[0].runs))
    bands = f"bands: {100 * frontiers[0].level:.0f} %; dotted: extrapolated."
    caption(figure, [bands, *_notes(fits)])
    return figure


@styled()
def figure_surface(fit: Fit, frontier: Frontier) -> Figure:
    """Contours of the loss surface with the efficient frontier."""
    figure, (ax,) = new_figure()
    plot_surface(ax, fit, frontier).set_title(titled(formula_text(law_named(fit.law).formula), fit))
    caption(figure, _notes([fit]))
    return figure


@styled()
def figure_residuals(fit: Fit) -> Figure:
    """Residuals of a surface against N, D and C."""
    figure, axes = new_figure(3, height=2.5)
    plot_residuals(axes, fit)[0].set_title(titled(f"Residuals, {fit.name}", fit))
    caption(figure, _notes([fit]))
    return figure


@styled()
def figure_agreement(compared: Agreement, fits: Sequence[Fit] = ()) -> Figure:
    """Exponents and optima of the approaches side by side."""
    figure, axes = new_figure(4, height=2.0)
    plot_agreement(axes, compared)[0].set_title("Agreement of the approaches")
    level = f"bars: {100 * compared.level:.0f} % intervals; hollow: not certified."
    verdicts = [s for s in compared.findings if "disagree" in s]
    caption(figure, [level, *verdicts, *_notes(fits)])
    return figure


@styled()
def figure_forecast(
    frontier: Frontier,
    fit: Fit,
    forecasts: Mapping[str, Estimated],
    *,
    flops: float,
    outcome: float | None = None,
) -> Figure:
    """Estimated of one run beyond the grid, against what came out."""
    figure, axes = new_figure(2, height=2.8)
    plot_forecast(axes, frontier, fit.runs, forecasts, flops=flops, outcome=outcome)
    axes[0].set_title(titled("Loss at the optimum", fit))
    level = f"bars: {100 * fit.level:.0f} % intervals for one run, with run-to-run noise."
    caption(figure, [level, *_notes([fit])])
    return figure


def _notes(fits: Sequence[Fit]) -> list[str]:
    """What the fits leave out and why, and which of them are not certified."""
    sentences = [
        f"not certified: {fit.name} is {fit.status.name}, {fit.status.value}."
        for fit in fits
        if not fit.is_certified
    ]
    by_text: dict[str, list[str]] = {}
    for fit in fits:
        by_text.setdefault(_left_out(fit), []).append(fit.name)
    return sentences + [f"{', '.join(names)}: {text}" for text, names in by_text.items()]


def _left_out(fit: Fit) -> str:
    reasons: dict[str, int] = {}
    for reason in fit.left_out.values():
        reasons[reason] = reasons.get(reason, 0) + 1
    if not reasons:
        return f"all {len(fit.runs)} runs used."
    listed = "; ".join(f"{n} for {reason}" for reason, n in reasons.items())
    return f"{len(fit.left_out)} of {len(fit.runs)} runs left out: {listed}."
