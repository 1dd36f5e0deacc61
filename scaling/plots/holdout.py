# SPDX-License-Identifier: Apache-2.0
"""Figures of hold-outs and of compute multipliers."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.answers.compute_multiplier import Multiplier
from scaling.answers.holdout import HoldOut
from scaling.plots.labels import flops_label, loss_label
from scaling.plots.style import approach_styles, caption, log_flops, log_losses, new_figure, styled
from scaling.tables.units import power


@styled()
def figure_hold_out(found: HoldOut) -> Figure:
    """Predicted against observed loss above C, and the errors against compute."""
    figure, axes = new_figure(2, height=3.0)
    plot_predicted(axes[0], found).set_title(f"Runs above {power(found.below)} FLOPs")
    plot_errors(axes[1], found)
    caption(figure, [*found.findings, *(f"{k}: {why}" for k, why in found.refusals.items())])
    return figure


def plot_predicted(ax: Axes, found: HoldOut) -> Axes:
    """Observed loss (across) and predicted loss (up) of every law, with the line of equality."""
    observed = found.held.loss_nats
    styles = approach_styles([p.law for p in found.predictions])
    for one in found.predictions:
        style = styles[one.law]
        ax.plot(
            observed, one.predicted, style["marker"], color=style["color"], markersize=4,
            markerfacecolor=style["color"] if one.fit.is_certified else "none", alpha=0.7,
            label=f"{one.law}, {100 * one.error:.2f} %"
            + ("" if one.fit.is_certified else ", not certified"),
        )  # fmt: skip
    ends = [observed.min(), observed.max()]
    ax.plot(ends, ends, color="#444444", linewidth=0.8)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel=f"observed {loss_label(found.held.loss_name)}",
        ylabel="predicted",
    )
    log_losses(ax.xaxis)
    log_losses(ax.yaxis)
    ax.legend(loc="upper left")
    return ax


def plot_errors(ax: Axes, found: HoldOut) -> Axes:
    """Relative error of every law against compute."""
    styles = approach_styles([p.law for p in found.predictions])
    for one in found.predictions:
        style = styles[one.law]
        error = 100.0 * one.relative_error(found.held.loss_nats)
        ax.plot(
            found.held.flops, error, style["marker"], color=style["color"], markersize=4, alpha=0.7
        )
    ax.axhline(0.0, color="#444444", linewidth=0.8)
    ax.set(xscale="log", xlabel=flops_label(found.held), ylabel="predicted - observed (%)")
    log_flops(ax.xaxis)
    return ax


@styled()
def figure_multiplier(found: Multiplier) -> Figure:
    """C_A/C_B along the loss; hollow where a level is extrapolated."""
    figure, (ax,) = new_figure()
    plot_multiplier(ax, found).set_title("Compute of A over B at equal loss; above 1, B needs less")
    level = f"band: {100 * found.level:g} % intervals, one by one; hollow: extrapolated."
    caption(figure, [level, *found.findings])
    return figure


def plot_multiplier(ax: Axes, found: Multiplier) -> Axes:
    """The curve in its band; an open end runs to the edge of the axes."""
    colour = "#0072b2"
    # None where B never reaches the loss: its ratio is 0.
    ratio = np.where(found.ratio > 0, found.ratio, np.nan)
    lower, upper = (np.clip(ends, ratio / 1e3, ratio * 1e3)
                    for ends in (found.lower, found.upper))  # fmt: skip
    ax.fill_between(found.loss, lower, upper, color=colour, alpha=0.2, linewidth=0)
    ax.vlines(found.loss[found.shown], lower[found.shown], upper[found.shown], color=colour, lw=0.8)
    ax.plot(found.loss, ratio, color=colour, linewidth=1.6)
    for is_hollow in (False, True):
        rows = found.shown[found.is_extrapolated[found.shown] == is_hollow]
        face = "white" if is_hollow else colour
        ax.plot(found.loss[rows], ratio[rows], "o", color=colour, markerfacecolor=face)
    ax.axhline(1.0, color="#444444", linewidth=0.8)
    ax.set(yscale="log", xlabel=loss_label(found.loss_unit), ylabel="C_A / C_B")
    log_losses(ax.yaxis)
    ax.invert_xaxis()
    return ax
