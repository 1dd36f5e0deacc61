# SPDX-License-Identifier: Apache-2.0
"""Planned against real device-seconds of every finished run, log-log."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.cost.planned_vs_real import Compared
from scaling.plots.style import budget_styles, caption, log_counts, new_figure, scientific, styled

# Beyond these a plan was wrong by more than a factor of two.
FACTOR = 2.0


@styled()
def figure_cost(rows: Sequence[Compared]) -> Figure:
    """A marker per run, by budget; the line where both are equal, with a factor of two around."""
    figure, (ax,) = new_figure()
    styles = budget_styles(sorted({row.real.budget for row in rows}))
    for budget, style in styles.items():
        here = [row for row in rows if row.real.budget == budget]
        ax.plot(
            [row.planned_seconds for row in here],
            [row.real.device_seconds for row in here],
            linestyle="",
            label=f"{scientific(budget)} FLOPs",
            **style,
        )
    both = [s for row in rows for s in (row.planned_seconds, row.real.device_seconds)]
    ends = (min(both) / FACTOR, max(both) * FACTOR)
    ax.plot(ends, ends, color="#000000", linewidth=0.8, label="as planned")
    lower, upper = ([end * factor for end in ends] for factor in (1 / FACTOR, FACTOR))
    ax.fill_between(ends, lower, upper, color="#000000", alpha=0.06, linewidth=0)
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    log_counts(ax.xaxis)
    log_counts(ax.yaxis)
    ax.set_xlabel("planned device-seconds")
    ax.set_ylabel("real device-seconds")
    ax.set_title("Cost planned against real")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    caption(figure, [f"{len(rows)} finished runs; band: a factor of {FACTOR:g} either way."])
    return figure
