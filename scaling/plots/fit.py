# SPDX-License-Identifier: Apache-2.0
"""The fit with its band: along compute, along the one column of a law, or against the runs."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.answers.frontier import frontier, law_band
from scaling.fit import Fit
from scaling.intervals import Band
from scaling.laws.registry import law_named
from scaling.plots.labels import flops_label, label_losses, titled
from scaling.plots.style import caption, formula_text, log_flops, new_figure, styled

COLOUR = "#0072b2"
_POINTS = 61


@styled()
def figure_fit(fit: Fit) -> Figure:
    """Runs and fit with its band; a fit that is not certified says so in its title."""
    figure, (ax,) = new_figure()
    plot_fit(ax, fit)
    law = formula_text(law_named(fit.law).formula) if fit.law != "power_laws" else fit.name
    ax.set_title(titled(law, fit))
    band = f"band: {100 * fit.level:g} %, of the law without run-to-run noise."
    doubt = f"not certified: {fit.name} is {fit.status.name}, {fit.status.value}."
    caption(figure, [band, *[doubt] * (not fit.is_certified)])
    return figure


def plot_fit(ax: Axes, fit: Fit) -> Axes:
    """L*(C), or the law along its one column, or observed against predicted where it has more."""
    if fit.law == "power_laws" or law_named(fit.law).is_surface:
        return _plot_along_compute(ax, fit)
    columns = law_named(fit.law).columns
    return _plot_along(ax, fit) if len(columns) == 1 else _plot_against_runs(ax, fit)


def _plot_along_compute(ax: Axes, fit: Fit) -> Axes:
    runs = fit.fitted_runs
    flops = np.geomspace(runs.flops.min(), 3.0 * runs.flops.max(), _POINTS)
    front = frontier(fit, flops)
    _band(ax, flops, front.loss_opt, "L*(C)", front.is_extrapolated)
    ax.plot(runs.flops, runs.loss_nats, ".", color="#999999", markersize=4, label="runs")
    ax.set(xscale="log", xlabel=flops_label(runs))
    label_losses(ax, runs.loss_name, runs.bits_per_nat)
    log_flops(ax.xaxis)
    ax.legend()
    return ax


def _plot_along(ax: Axes, fit: Fit) -> Axes:
    law, table = law_named(fit.law), fit.fitted_runs.numeric
    name = law.columns[0].removeprefix("log_")
    x = np.geomspace(table[name].min(), table[name].max(), _POINTS)
    _band(ax, x, law_band(fit, {name: x}), law.name, np.zeros(len(x), bool))
    ax.plot(table[name], table[law.target], ".", color="#999999", markersize=4, label="runs")
    ax.set(xscale="log", xlabel=name, ylabel=law.target)
    ax.legend()
    return ax


def _plot_against_runs(ax: Axes, fit: Fit) -> Axes:
    law, table = law_named(fit.law), fit.fitted_runs.numeric
    band = law_band(fit, table)
    observed = table[law.target]
    ax.vlines(observed, band.lower, band.upper, color=COLOUR, alpha=0.4)
    ax.plot(observed, band.value, ".", color=COLOUR, markersize=5)
    ends = [observed.min(), observed.max()]
    ax.plot(ends, ends, color="#444444", linewidth=0.8)
    ax.set(xlabel=f"observed {law.target}", ylabel="predicted")
    return ax


def _band(ax: Axes, x: np.ndarray, band: Band, label: str, beyond: np.ndarray) -> None:
    ax.fill_between(x, band.lower, band.upper, color=COLOUR, alpha=0.15, lw=0)
    ax.plot(x, band.value, ":", color=COLOUR)
    ax.plot(x, np.where(beyond, np.nan, band.value), color=COLOUR, label=label)
