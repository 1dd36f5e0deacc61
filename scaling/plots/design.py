# SPDX-License-Identifier: Apache-2.0
"""Figures of designs: where the next runs lie, and what intervals cost."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from scaling.design.propose import Proposal
from scaling.plots.labels import flops_label
from scaling.plots.style import caption, log_counts, log_flops, new_figure, styled
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs


def plot_proposal(
    ax: Axes, done: Runs, planned: Runs, gains: Array, proposal: Proposal
) -> PathCollection:
    """Finished runs, planned runs coloured by what each alone is worth, proposed ones ringed.

    Returns:
      what a colour bar needs.
    """
    norm = mpl.colors.LogNorm(vmin=1e-3, vmax=max(float(np.max(gains)), 1e-2))
    shown = ax.scatter(
        planned.flops, planned.n_params, s=22, c=np.maximum(gains, 1e-3), cmap="viridis_r",
        norm=norm, label="planned",
    )  # fmt: skip
    # On top: a planned repeat lies where a finished run does.
    ax.scatter(
        done.flops, done.n_params, s=14, marker="x", color="#888888", label="finished", zorder=3
    )  # fmt: skip
    rows = list(proposal.rows)
    ax.scatter(
        planned.flops[rows], planned.n_params[rows], s=70, facecolors="none", edgecolors="#d55e00",
        linewidths=1.3, label="proposed",
    )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel(flops_label(planned))
    ax.set_ylabel("parameters")
    log_flops(ax.xaxis)
    log_counts(ax.yaxis)
    ax.legend()
    return shown


@styled()
def figure_proposal(
    done: Runs, planned: Runs, gains: Array, proposal: Proposal, *, sentence: str
) -> Figure:
    """The proposal in the plane of compute and size."""
    figure, (ax,) = new_figure()
    shown = plot_proposal(ax, done, planned, gains, proposal)
    ax.set_title("Which runs next")
    figure.colorbar(shown, ax=ax, label="gain alone / gain of all planned")
    caption(figure, [sentence, *proposal.findings])
    return figure
