# SPDX-License-Identifier: Apache-2.0
"""The error of Approach 2 without any noise, for three surfaces and four widths of the grid."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from scaling.approaches.isoflop.bias import approach2_bias
from scaling.plots.style import caption, new_figure, styled
from scaling.published.case import Case, Reproduction, compare
from scaling.tables.runs import Runs

BUDGETS = (1e17, 1e18, 1e19, 1e20, 1e21)
N_POINTS = 15
WIDTHS = (2.0, 4.0, 8.0, 16.0)
AT = 1e24


class Published(NamedTuple):
    """A surface (E, A, B, alpha, beta), how far off its optimum the grid is centred in D, and the
    published errors of D* at 1e24 FLOPs in per cent, one per width.
    """

    name: str
    surface: tuple[float, ...]
    off_centre: float
    percent: tuple[str, ...]


PUBLISHED = (
    Published(
        "Chinchilla (alpha .34, beta .28)",
        (1.69, 406.4, 410.7, 0.34, 0.28),
        1.0,
        ("-0.327", "-1.301", "-2.903", "-5.100"),
    ),
    Published(
        "asymmetric (alpha .465, beta .155)",
        (1.69, 406.4, 410.7, 0.465, 0.155),
        1.0,
        ("-1.675", "-6.498", "-13.910", "-23.116"),
    ),
    Published(
        "symmetric (.31), centre off 3x",
        (1.69, 400.0, 400.0, 0.31, 0.31),
        3.0,
        ("3.974", "3.472", "2.645", "1.510"),
    ),
)


def grid(case: Published, width: float) -> Runs:
    """Tokens from 1/width to width times the centre at each budget, evenly in ln D, C = 6ND."""
    _, A, B, alpha, beta = case.surface
    C = np.repeat(BUDGETS, N_POINTS)
    G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    best = (C / 6) ** (alpha / (alpha + beta)) / G
    D = case.off_centre * best * np.tile(np.geomspace(1 / width, width, N_POINTS), len(BUDGETS))
    return Runs.from_columns(n_params=C / 6 / D, n_tokens=D, loss_nats=np.ones(len(D)), budget=C)


def percent(case: Published, width: float, curve: str = "parabola") -> float:
    """Error of D* at 1e24 FLOPs in per cent; curves over ln D, as in the source."""
    found = approach2_bias(
        "additive", np.array(case.surface), grid(case, width), AT, curve=curve, tokens="curve"
    )
    return 100.0 * found.of_n_tokens


@styled()
def figure_bias() -> Figure:
    """Error of D* against the width of the grid: parabola, and quartic for comparison."""
    figure, axes = new_figure(3, width=10.0, height=3.3)
    for ax, case in zip(axes, PUBLISHED, strict=True):
        # A quartic has its minimum on the grid, so the grid must reach the optimum.
        for curve, line, narrowest in (("parabola", "-", 1.5), ("quartic", "--", case.off_centre)):
            widths = np.geomspace(max(1.5, 1.2 * narrowest), 20.0, 13)
            ax.plot(widths, [percent(case, w, curve) for w in widths], line, label=curve)
        ax.plot(WIDTHS, list(map(float, case.percent)), "o", color="#d55e00", label="published")
        ax.axhline(0.0, color="#444444", linewidth=0.8)
        ax.set(xscale="log", xlabel="half width of the grid (times)", title=case.name)
        ax.set_xticks(WIDTHS, [f"{w:g}" for w in WIDTHS])
        ax.minorticks_off()
    axes[0].set_ylabel("error of D* at 1e24 FLOPs (%)")
    axes[0].legend()
    caption(figure, ["no noise: budgets 1e17 to 1e21 FLOPs, 15 points each."])
    return figure


def run(tables: Path) -> Reproduction:
    """The twelve errors and the figure; needs no table."""
    comparisons = [
        compare(f"{case.name}, +-{width:g}x: error of D* in %", text, percent(case, width))
        for case in PUBLISHED
        for width, text in zip(WIDTHS, case.percent, strict=True)
    ]
    return Reproduction(comparisons=tuple(comparisons), figure=figure_bias())


CASE = Case(
    name="approach2_bias",
    title="Errors of Approach 2 without noise",
    paper="arXiv:2603.22339",
    run=run,
)
