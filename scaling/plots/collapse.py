# SPDX-License-Identifier: Apache-2.0
"""Normalised loss curves of a ladder, their deviation, and the curve of a forecast run."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scaling.answers.collapse import Collapse
from scaling.intervals import Band
from scaling.plots.labels import loss_label
from scaling.plots.style import APPROACHES, budget_styles, caption, new_figure, scientific, styled
from scaling.tables.arrays import Array

_LEFT = "#d55e00"


@styled()
def figure_collapse(found: Collapse) -> Figure:
    """Left: the normalised curves of the ladder. Right: how far they are from one curve."""
    figure, axes = new_figure(2, height=3.0)
    plot_collapse(axes, found)
    n_left = len(found.leaving)
    about = (
        f"{len(found.run_id)} runs near the optimum of their budget; reducible loss, above "
        f"{found.floor:.3f} nats, over its own end."
    )
    left = f"dashed: {n_left} that leave the bundle, not in the deviation." if n_left else ""
    caption(figure, [about, left, *found.findings])
    return figure


def plot_collapse(axes: Sequence[Axes], found: Collapse) -> Sequence[Axes]:
    """A line per run, coloured by budget; relative standard deviation at each share.

    Args:
      axes: two.
    """
    left, right = axes
    styles = budget_styles(found.budget)
    for run_id, budget, row in zip(found.run_id, found.budget, found.normalised, strict=True):
        has_left = str(run_id) in found.leaving
        look = (
            {"color": _LEFT, "linestyle": "--"} if has_left else {"color": _colour(styles, budget)}
        )
        left.plot(found.share, row, linewidth=1.0, **look)
    left.set(xlabel="share of the run's tokens", ylabel="(L - E) / (L at the end - E)", xlim=(0, 1))
    left.set_title("Normalised curves of the ladder")
    handles = [
        Line2D([], [], color=_colour(styles, budget), label=scientific(budget)) for budget in styles
    ]
    left.legend(handles=handles, title="FLOPs", loc="upper right")
    right.plot(found.share, 100 * found.deviation, marker="o", markersize=3, color=APPROACHES[0])
    right.set(xlabel="share of the run's tokens", ylabel="standard deviation, % of the mean")
    right.set(xlim=(0, 1), ylim=(0, None))
    right.set_title("How far from one curve")
    return axes


@styled()
def figure_trajectory(
    share: Array, forecast: Band, level: float, unit: str, came: tuple[Array, Array] | None
) -> Figure:
    """The curve that was forecast of a run, with its band, and the curve that came.

    Args:
      share: of the run's tokens, [X]; forecast: losses there.
      came: shares and losses of the run's evaluations; None before it is trained.
    """
    figure, (ax,) = new_figure()
    ax.fill_between(share, forecast.lower, forecast.upper, color=APPROACHES[0], alpha=0.15, lw=0)
    ax.plot(share, forecast.value, color=APPROACHES[0], label="forecast")
    if came is not None:
        ax.plot(*came, "*", color="#222222", markersize=8, label="came out")
    ax.set(xlabel="share of the run's tokens", ylabel=loss_label(unit), xlim=(0, 1.02))
    ax.set_title("The whole curve of the run beyond the grid")
    ax.legend(loc="upper right")
    said = f"band: {level:.0%}, from the curves of the ladder and the forecast of the end."
    caption(figure, [said])
    return figure


def _colour(styles: Mapping[float, Any], budget: float) -> Any:
    return styles[float(budget)]["color"]
