# SPDX-License-Identifier: Apache-2.0
"""What the panels of the page's figures are made of: axes, legends, and what a pointer reads."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.core.properties import value
from bokeh.models import (
    CustomJSTicker,
    CustomJSTickFormatter,
    GlyphRenderer,
    HoverTool,
    Legend,
    LegendItem,
    TapTool,
)
from bokeh.plotting import figure
from numpy.typing import ArrayLike

# What a pointer reads of a run, and the column of the page's table that it stands in.
OF_A_RUN = {
    "run": "run",
    "C asked": "C asked",
    "N": "parameters",
    "D": "tokens",
    "D / N": "tokens per parameter",
    "seed": "seed",
    "loss": "loss",
    "bits per byte": "bits per byte",
}
# How the mark of a run looks when it is selected, and when another one is.
SELECTED: Any = {
    "nonselection_alpha": 0.2,
    "selection_line_color": "#000000",
    "selection_line_width": 3,
    "selection_alpha": 1.0,
}
INK, SOFT, GRID = "#1c2530", "#5b6775", "#e4e8ec"
# Round numbers on a logarithmic axis, closer together the less it spans; at last evenly.
TICKS = """
const { start, end } = cb_data
const first = Math.floor(Math.log10(start)), last = Math.ceil(Math.log10(end))
const decades = Array.from({ length: last - first + 1 }, (_, i) => first + i)
const tenths = Array.from({ length: 18 }, (_, i) => 1 + i / 2)
for (const steps of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7], tenths]) {
  const ticks = decades.flatMap((decade) => steps.map((step) => Number(`${step}e${decade}`)))
  const inside = ticks.filter((tick) => start <= tick && tick <= end)
  if (inside.length >= 4) return inside
}
const step = 10 ** Math.floor(Math.log10((end - start) / 2))
const n = Math.floor((end - start) / step)
const every = step * Math.ceil(n / 6)
return Array.from({ length: 8 }, (_, i) => (Math.ceil(start / every) + i) * every)
  .filter((tick) => tick <= end)
"""
# As scaling.tables.units.count: 14.3k.
COUNT = """
const sizes = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"], [1, ""]]
const [size, letter] = sizes.find(([size]) => tick >= size * 0.9995) ?? [1, ""]
return `${Number((tick / size).toPrecision(3))}${letter}`
"""
# As scaling.tables.units.power: 2e10.
POWER = 'return Number(tick.toPrecision(3)).toExponential().replace("e+", "e")'
PLAIN = "return `${Number(tick.toPrecision(4))}`"


class Switches:
    """Legend entries that hide and show the same thing in several panels."""

    def __init__(self) -> None:
        self._drawn: dict[str, list[GlyphRenderer]] = {}

    def add(self, name: str, renderers: Iterable[GlyphRenderer]) -> None:
        self._drawn.setdefault(name, []).extend(renderers)

    def link(self) -> None:
        """A ring per name: what is switched anywhere is switched everywhere."""
        for ring in self._drawn.values():
            for one, other in zip(ring, [*ring[1:], ring[0]], strict=True):
                if one is not other:
                    one.js_link("visible", other, "visible")


def new_panel(x: tuple[str, str], y: tuple[str, str], *, y_axis_type: str = "log") -> figure:
    """Logarithmic axes as wide as the page; a finger that scrolls the page moves no axis.

    Args:
      x, y: label and format (COUNT, POWER, PLAIN) of an axis.
    """
    made = figure(
        height=430,
        sizing_mode="stretch_width",
        x_axis_type="log",
        y_axis_type=y_axis_type,
        tools="pan,box_zoom,wheel_zoom,reset,save",
        active_drag=None,
        active_scroll=None,
        toolbar_location="above",
    )
    made.toolbar.logo = None
    made.outline_line_color = None
    made.grid.grid_line_color = GRID
    is_log = (True, y_axis_type == "log")
    axes = zip((made.xaxis[0], made.yaxis[0]), made.grid, (x, y), is_log, strict=True)
    for axis, grid, (label, form), logarithmic in axes:
        axis.axis_label = label
        axis.axis_label_text_font_style = "normal"
        axis.axis_line_color = axis.major_tick_line_color = axis.axis_label_text_color = SOFT
        axis.major_label_text_color = INK
        axis.minor_tick_line_color = None
        axis.formatter = CustomJSTickFormatter(code=form)
        if logarithmic:
            axis.ticker = grid.ticker = CustomJSTicker(major_code=TICKS)
    return made


def read(panel: figure, renderers: Sequence[GlyphRenderer], columns: Iterable[str]) -> None:
    """Shows these columns where the pointer is."""
    if renderers:
        tips = [(name, f"@{{{name}}}") for name in columns]
        # Above or below, where a narrow window has room. They move with the pointer, one after
        # another: of several the page shows the one that moved last, of what is drawn on top.
        panel.add_tools(
            HoverTool(
                renderers=list(renderers),
                tooltips=tips,
                attachment="vertical",
                point_policy="follow_mouse",
            )
        )


def read_runs(panel: figure, renderers: Sequence[GlyphRenderer]) -> None:
    """Shows the run where the pointer is; a click selects it."""
    read(panel, renderers, OF_A_RUN)
    panel.add_tools(TapTool(renderers=list(renderers)))


def legend(panel: figure, entries: Mapping[str, GlyphRenderer], title: str = "") -> None:
    """Below the panel; a click on an entry hides what it names, and shows it again."""
    panel.add_layout(
        Legend(
            items=[LegendItem(label=value(name), renderers=[r]) for name, r in entries.items()],
            title=title or None,
            title_text_font_style="normal",
            orientation="horizontal",
            location="left",
            ncols=2 if max(map(len, entries)) > 16 else 3,
            margin=0,
            click_policy="hide",
            border_line_color=None,
            label_text_font_size="12px",
            spacing=8,
            padding=8,
        ),
        "below",
    )


def short(values: ArrayLike) -> list[float]:
    """Plain numbers of six digits: more is not seen, and makes the page large."""
    return [float(f"{number:.6g}") for number in np.asarray(values, float)]
