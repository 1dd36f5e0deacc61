# SPDX-License-Identifier: Apache-2.0
"""Settings beside one another: their frontiers, and the compute that each is worth."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.answers.side_by_side import Side
from scaling.answers.true_loss import true_loss
from scaling.plots.labels import flops_label, label_losses, loss_label
from scaling.plots.style import caption, log_flops, log_ratios, new_figure, setting_styles, styled

_WIDEST = 1e3  # Of a band, over its curve: an open end runs to there.
_TRUE = "the true source, on the same validation set"


@styled()
def figure_sides(found: Sequence[Side]) -> Figure:
    """L*(C) of every setting with its band and the lowest loss at each budget, the loss of the true
    source where that is known; and the gain, where two have losses in common."""
    gaining = [side for side in found if side.gain is not None]
    figure, (left, *right) = new_figure(1 + bool(gaining), height=3.6)
    styles = setting_styles([side.name for side in found])
    for side in found:
        _plot_frontier(left, side, styles[side.name])
    runs = found[0].fit.runs
    left.set(xscale="log", xlabel=flops_label(runs))
    label_losses(left, runs.loss_name, runs.bits_per_nat)
    if (floor := true_loss(runs)) is not None:
        left.axhline(floor, color="#444444", linewidth=0.8, linestyle=":", label=_TRUE)
    left.set_title("L*(C)")
    log_flops(left.xaxis)
    for ax in right:
        for side in gaining:
            _plot_gain(ax, side, styles[side.name])
        ax.axhline(1.0, color="#444444", linewidth=0.8)
        ax.set(yscale="log", xlabel=loss_label(runs.loss_name))
        ax.set(ylabel=f"C of {found[0].name} / C at equal loss")
        ax.set_title("compute-equivalent gain")
        ax.invert_xaxis()
        log_ratios(ax.yaxis)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    said = [
        f"bands: {100 * found[0].front.level:g} % intervals, one by one; dots: the lowest loss at "
        "each budget; above 1 a setting needs less compute.",
        *(f"{side.name}: {side.why}" for side in found if side.why),
        *(
            f"not certified: {side.name} is {side.fit.status.name}."
            for side in found
            if not side.fit.is_certified
        ),
    ]
    caption(figure, said)
    return figure


def _plot_frontier(ax: Axes, side: Side, style: Mapping[str, Any]) -> None:
    colour, line = style["color"], style["linestyle"]
    band, flops, runs = side.front.loss_opt, side.front.flops, side.fit.fitted_runs
    ax.fill_between(flops, band.lower, band.upper, color=colour, alpha=0.15, linewidth=0)
    ax.plot(flops, band.value, color=colour, linestyle=line, linewidth=1.2, label=side.title)
    lowest = [np.min(runs.loss_nats[runs.budget == budget]) for budget in runs.budgets]
    ax.plot(runs.budgets, lowest, ".", color=colour, markersize=4)


def _plot_gain(ax: Axes, side: Side, style: Mapping[str, Any]) -> None:
    gain, colour, line = side.gain, style["color"], style["linestyle"]
    assert gain is not None
    # None where the setting never reaches the loss: its gain is 0.
    ratio = np.where(gain.ratio > 0, gain.ratio, np.nan)
    lower, upper = (
        np.clip(ends, ratio / _WIDEST, ratio * _WIDEST) for ends in (gain.lower, gain.upper)
    )
    ax.fill_between(gain.loss, lower, upper, color=colour, alpha=0.15, linewidth=0)
    ax.plot(gain.loss, ratio, color=colour, linestyle=line, linewidth=1.2)
