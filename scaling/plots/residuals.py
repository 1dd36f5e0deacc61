# SPDX-License-Identifier: Apache-2.0
"""What a fit leaves of each run."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from scaling.approaches.diagnostics import residuals
from scaling.fit import Fit
from scaling.plots.labels import (
    D_LABEL,
    budget_legend,
    flops_label,
    has_budgets,
    params_label,
)
from scaling.plots.style import budget_styles, log_counts


def plot_residuals(axes: Sequence[Axes], fit: Fit) -> Sequence[Axes]:
    """Residuals of log loss against N, D and C in three panels; grey: one run's scatter."""
    runs, error = fit.fitted_runs, 100.0 * residuals(fit)
    styles = budget_styles(runs.budgets)
    columns = (runs.n_params, runs.n_tokens, runs.flops)
    labels = (params_label(runs), D_LABEL, flops_label(runs))
    for ax, values, label in zip(axes, columns, labels, strict=True):
        if fit.noise is not None:
            sd = 100.0 * fit.noise.one_run_sd
            ax.axhspan(-sd, sd, color="#dddddd", zorder=0)
        ax.axhline(0.0, color="#444444", linewidth=0.8)
        if has_budgets(runs):
            for budget, style in styles.items():
                rows = runs.budget == budget
                ax.plot(values[rows], error[rows], **style, linestyle="none", markersize=4)
        else:
            ax.plot(values, error, ".", color="#31688e", markersize=4)
        ax.set(xscale="log", xlabel=label)
    for ax in axes[:2]:
        log_counts(ax.xaxis)
    axes[0].set_ylabel("residual of log loss (%)")
    budget_legend(axes[-1], runs)
    return axes
