# SPDX-License-Identifier: Apache-2.0
"""The reliability diagram of forecasts: observed against nominal coverage."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.answers.calibration import Calibration
from scaling.plots.style import APPROACHES, caption, new_figure, styled


@styled()
def figure_calibration(found: Calibration) -> Figure:
    """Observed against nominal coverage, with the band of the binomial and the diagonal."""
    figure, (ax,) = new_figure(width=3.4)
    plot_calibration(ax, found)
    about = (
        f"{found.n_forecasts} forecasts of {found.n_groups} studies; band: 95 % intervals of a "
        "share (Clopper and Pearson 1934), one trial per study; dotted: as it should be."
    )
    caption(figure, [about])
    return figure


def plot_calibration(ax: Axes, found: Calibration) -> Axes:
    """A line through the levels, its band, and the diagonal."""
    colour, levels = APPROACHES[0], 100 * found.levels
    ax.plot([0, 100], [0, 100], ":", color="#777777")
    ends = (100 * found.observed.lower, 100 * found.observed.upper)
    ax.fill_between(levels, *ends, color=colour, alpha=0.15, lw=0)
    ax.plot(levels, 100 * found.observed.value, marker="o", markersize=3, color=colour)
    ax.set(xlabel="interval, %", ylabel="of the forecasts inside, %", xlim=(0, 100), ylim=(0, 103))
    ax.set_title("Calibration of the forecasts")
    return ax
