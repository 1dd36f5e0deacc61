# SPDX-License-Identifier: Apache-2.0
"""Validation loss along training, a line per run."""

import numpy as np
from matplotlib.axes import Axes

from scaling.plots.labels import budget_legend, flops_label, label_losses
from scaling.plots.style import budget_styles, log_flops, log_losses
from scaling.tables.runs import Curves, Runs


def plot_curves(ax: Axes, curves: Curves, runs: Runs) -> Axes:
    """Validation loss along training, coloured by budget; a marker ends each run."""
    styles = budget_styles(runs.budgets)
    for i in np.flatnonzero(runs.is_ok):
        curve, style = curves.of(str(runs.run_id[i])), styles[float(runs.budget[i])]
        keep = curve.n_tokens > 0
        flops = curve.n_tokens[keep] * runs.flops_per_token[i]
        ax.plot(flops, curve.loss_nats[keep], color=style["color"], linewidth=0.8, alpha=0.75)
        ax.plot(runs.flops[i], runs.loss_nats[i], **style, markersize=3.5, linestyle="none")
    ax.set(xscale="log", yscale="log", xlabel=flops_label(runs))
    label_losses(ax, runs.loss_name, runs.bits_per_nat)
    log_flops(ax.xaxis)
    log_losses(ax.yaxis)
    budget_legend(ax, runs)
    return ax
