# SPDX-License-Identifier: Apache-2.0
"""Sizes of activations against width and depth: flat against growing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from scaling.hyperparameters.width_depth_growth import Growth
from scaling.plots.style import WIDTH, approach_styles, caption, styled
from scaling.tables.arrays import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Quantities along one axis.

    Fields:
      sizes: widths or depths, [S]. changes, finals: by quantity, [seeds, S]. growths: of changes.
    """

    title: str
    axis: str
    sizes: Sequence[int]
    changes: Mapping[str, Array]
    finals: Mapping[str, Array]
    growths: Mapping[str, Growth]


def plot_growth(ax: Axes, panel: Panel) -> Axes:
    """Mean over seeds of the change (line) and of the size at the end (dots)."""
    for name, style in approach_styles(list(panel.changes)).items():
        exponent = panel.growths[name].exponent
        label = f"{name.replace('_', ' ')} {exponent:+.2f}"
        solid = style | {"linestyle": "-", "markersize": 4}
        ax.plot(panel.sizes, panel.changes[name].mean(axis=0), label=label, **solid)
        final = panel.finals[name].mean(axis=0)
        ax.plot(panel.sizes, final, ":", color=style["color"], linewidth=0.9)
    ax.set(xscale="log", yscale="log", xlabel=panel.axis, title=panel.title)
    ax.set_xticks(panel.sizes, [str(size) for size in panel.sizes])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.legend(fontsize=6.5)
    return ax


@styled()
def figure_growth(panels: Sequence[Sequence[Panel]], notes: Sequence[str]) -> Figure:
    """One panel per parameterisation (rows) and axis (columns), on one scale of sizes."""
    figure = Figure(figsize=(WIDTH, 2.6 * len(panels) + 0.4), layout="constrained")
    grid = figure.subplots(len(panels), len(panels[0]), sharey=True, squeeze=False)
    for axes, row in zip(grid, panels, strict=True):
        for ax, panel in zip(axes, row, strict=True):
            plot_growth(ax, panel)
        axes[0].set_ylabel("mean absolute value")
    caption(figure, ["lines: change; dotted: size at the end; numbers: slopes of changes.", *notes])
    return figure
