# SPDX-License-Identifier: Apache-2.0
"""How figures look and how they are saved: colours, captions, and bytes that do not change."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from scaling.tables.units import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Inches: the text of a page in two columns, so that figures are printed as they are, at 8 points.
WIDTH = 6.75
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "savefig.dpi": 200,
    "svg.hashsalt": "isoflop",
}

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MARKERS = "os^DvPX<>p*h"
LINES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
# Okabe and Ito 2008, in an order of falling luminance contrast with its neighbours.
APPROACHES = ("#0072b2", "#d55e00", "#000000", "#009e73", "#cc79a7")
# The approaches of a study, and the laws of its surfaces, look the same in every figure.
_PLACES = {"envelope": 0, "isoflop": 1, "additive": 2, "curved": 3, "average": 4}
_PLACES |= {f"surface ({law})": _PLACES[law] for law in ("additive", "curved")}


def new_figure(
    n_columns: int = 1, *, n_rows: int = 1, width: float = WIDTH, height: float = 3.4
) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side, and its axes, left to right, row by row."""
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    return figure, list(axes)


def styled() -> Any:
    """The style as a context or a decorator; matplotlib's global settings stay as they are."""
    return mpl.rc_context(STYLE)


def setting_styles(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of each setting that has a name, in the order given."""
    return {
        label: {
            "color": APPROACHES[i % len(APPROACHES)],
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": LINES[i // len(APPROACHES) % len(LINES)],
        }
        for i, label in enumerate(labels)
    }


def caption(figure: Figure, sentences: Iterable[str]) -> None:
    """What is left out and what is doubtful: it stands beside the image, not in it."""
    figure.set_label("\n".join(dict.fromkeys(sentences)))


def save(figure: Figure, stem: str | Path) -> tuple[Path, Path]:
    """Writes stem.png and stem.svg, the same bytes for the same figure, and the caption, stem.txt.

    Returns the paths of the images.
    """
    stem = Path(stem)
    png, svg = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + ".svg")
    with styled():
        # Once, and not before each image: it takes longer than drawing.
        if (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)
            figure.set_layout_engine(None)
        save_png(figure, png)
        figure.savefig(svg, metadata={"Date": None, "Creator": None})
    stem.with_name(stem.name + ".txt").write_text(f"{figure.get_label()}\n")
    return png, svg


def save_png(figure: Figure, path: Path) -> None:
    """Writes one image, the same bytes for the same figure, without its caption."""
    with styled():
        figure.savefig(path, metadata={"Software": None})


def budget_styles(budgets: Sequence[float] | np.ndarray) -> dict[float, dict[str, Any]]:
    """Colour and marker of each budget: viridis by log budget, dark to light with compute.

    The pale end of the map is left out: it vanishes on paper.
    """
    colours = mpl.colormaps["viridis"]
    ordered = sorted(float(b) for b in budgets)
    low, high = np.log(ordered[0]), np.log(ordered[-1])
    span = max(high - low, 1e-12)
    return {
        b: {"color": colours(0.82 * (np.log(b) - low) / span), "marker": MARKERS[i % len(MARKERS)]}
        for i, b in enumerate(ordered)
    }


def approach_styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, line style and marker of each approach: of those of a study, always the same."""
    places = {name: _PLACES[name] for name in names if name in _PLACES}
    free = [i for i in range(len(places) + len(names)) if i not in places.values()]
    places |= dict(zip((name for name in names if name not in places), free, strict=False))
    return {
        name: {
            "color": APPROACHES[i % len(APPROACHES)],
            "linestyle": LINES[i % len(LINES)],
            "marker": MARKERS[i % len(MARKERS)],
        }
        for name, i in ((name, places[name]) for name in names)
    }


def scientific(value: float, _position: float = 0) -> str:
    """A number as a power of ten of two digits: 3×10¹¹, or 10¹¹ without a leading 1.

    Plain text: mathtext would take a quarter of the time of a figure.
    """
    mantissa, exponent = f"{value:.1e}".replace(".0e", "e").split("e")
    power = "10" + str(int(exponent)).translate(_RAISED)
    return power if mantissa == "1" else f"{mantissa}\N{MULTIPLICATION SIGN}{power}"


def log_counts(axis: Axis) -> None:
    """Labels a logarithmic axis of counts with k, M, B and T."""
    _label_powers(axis, count, few=1.6, many=4.0)


def log_flops(axis: Axis) -> None:
    """Labels a logarithmic axis of compute with powers of ten, which are wider."""
    _label_powers(axis, scientific, few=0.8, many=2.0)


def _label_powers(
    axis: Axis, label: Callable[[float, float], str], *, few: float, many: float
) -> None:
    """Labels 1, 2 and 5 below ``few`` decades, 1 and 3 below ``many``, else 1."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    decades = np.log10(high / low)
    subs = (1.0, 2.0, 5.0) if decades < few else (1.0, 3.0) if decades < many else (1.0,)
    axis.set_major_locator(LogLocator(base=10, subs=subs))
    axis.set_major_formatter(FuncFormatter(label))
    axis.set_minor_formatter(NullFormatter())


def log_losses(axis: Axis) -> None:
    """Labels a logarithmic axis of losses with plain round numbers: it spans less than a decade."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    axis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axis.set_minor_locator(NullLocator())


def log_ratios(axis: Axis) -> None:
    """Labels a logarithmic axis of ratios with plain numbers, over any number of decades."""
    low, high = sorted(axis.get_view_interval())
    if high < 10 * low:
        log_losses(axis)
    else:
        _label_powers(axis, lambda value, _: f"{value:g}", few=1.6, many=4.0)


def formula_text(formula: str) -> str:
    """A law's formula as mathtext."""
    raised = re.sub(r"\^(-?\w+)", r"^{\1}", formula)
    return "$" + re.sub(r"\b(alpha|beta|gamma)\b", r"\\\1", raised) + "$"
