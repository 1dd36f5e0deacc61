# SPDX-License-Identifier: Apache-2.0
"""The loss surface of the 240 points with two efficient frontiers, and tokens per parameter."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.laws.closed_form_optimum import optimal_params
from scaling.laws.loss_laws import ADDITIVE
from scaling.plots.style import caption, log_counts, new_figure, styled
from scaling.published.tables import Table
from scaling.solve.regression import Estimate
from scaling.tables.arrays import Array
from scaling.tables.units import count

_OURS, _THEIRS = "#0072b2", "#d55e00"


@styled()
def figure(table: Table, found: Estimate, replicates: Array, hoffmann: Sequence[float]) -> Figure:
    """Left: loss against compute and size. Right: optimal tokens per parameter, 95 % band.

    Args:
      table: the 240 points. found: their minimum. replicates: parameters [R, 5].
      hoffmann: parameters of the other fit.
    """
    drawn, axes = new_figure(2, width=9.0)
    flops = np.geomspace(table["flops"].min(), 1e24, 60)
    _surface(axes[0], table, found, flops)
    good = replicates[np.all(np.isfinite(replicates), axis=1)]
    for ax, of in zip(axes, (_size, _ratio), strict=True):
        band = np.quantile(of(good[:, None, :], flops), (0.025, 0.975), axis=0)
        ax.fill_between(flops, *band, color=_OURS, alpha=0.25, lw=0)
        ax.plot(flops, of(found.parameters, flops), color=_OURS, label="these 240 points")
        ax.plot(
            flops, of(np.array(hoffmann), flops), "--", color=_THEIRS,
            label="Hoffmann et al., unrounded",
        )  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel="training compute C (FLOPs)")
    axes[0].set(ylabel="parameters N")
    axes[1].set(ylabel="optimal tokens per parameter, D*/N*", ylim=(3, 300))
    axes[1].axhline(20, color="#888888", lw=0.8, ls=":")
    axes[1].yaxis.set_major_formatter(count)
    log_counts(axes[0].yaxis)
    axes[1].legend(loc="upper left")
    caption(drawn, ["band: 95 % of 4,000 pairs bootstrap replicates; dotted: 20 per parameter."])
    return drawn


def _size(parameters: Array, flops: Array) -> Array:
    return optimal_params(parameters, flops)


def _ratio(parameters: Array, flops: Array) -> Array:
    return flops / 6.0 / optimal_params(parameters, flops) ** 2


def _surface(ax: Axes, table: Table, found: Estimate, flops: Array) -> None:
    """Contours of the fitted loss over compute and size, and the points it was fitted to."""
    sizes = np.geomspace(table["n_params"].min(), 4e11, 80)
    C, N = np.meshgrid(flops, sizes)
    # Before the labels of the contours: they leave gaps measured on the axes as they are.
    ax.set(xscale="log", yscale="log")
    loss = ADDITIVE.loss(found.parameters, N, C / (6 * N))
    levels = np.r_[1.9, 2.0, 2.1, 2.2, 2.4, 2.6, 2.9, 3.3, 4.0]
    lines = ax.contour(C, N, loss, levels=levels, cmap="viridis", linewidths=0.8)
    ax.clabel(lines, fmt="%.1f", fontsize=6)
    ax.plot(table["flops"], table["n_params"], ".", color="#999999", markersize=2.5)
    ax.set_title("fitted loss (nats per token)")
