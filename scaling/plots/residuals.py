# SPDX-License-Identifier: Apache-2.0
"""What a fit leaves of each run."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from scaling.approaches.diagnostics import residuals
from scaling.fit import Fit
from scaling.plots.labels import budget_legend, flops_label, has_budgets, params_label, tokens_label
from scaling.plots.style import budget_styles, log_counts, log_flops

_ONE_RUN = "#dddddd"
# A vector file of more marks is slow to show: the marks are an image in it.
_MANY = 500


def plot_residuals(axes: Sequence[Axes], fit: Fit) -> Sequence[Axes]:
    """Residuals of log loss against N, D and C in three panels; grey: one run's scatter."""
    runs, error = fit.fitted_runs, 100.0 * residuals(fit)
    styles, is_many = budget_styles(runs.budgets), len(runs) > _MANY
    columns = (runs.n_params, runs.n_tokens, runs.flops)
    labels = (params_label(runs), tokens_label(runs), flops_label(runs))
    for ax, values, label in zip(axes, columns, labels, strict=True):
        if fit.noise is not None:
            sd = 100.0 * fit.noise.one_run_sd
            ax.axhspan(-sd, sd, color=_ONE_RUN, zorder=0)
        ax.axhline(0.0, color="#444444", linewidth=0.8)
        if has_budgets(runs):
            for budget, style in styles.items():
                rows = runs.budget == budget
                ax.plot(
                    values[rows],
                    error[rows],
                    **style,
                    linestyle="none",
                    markersize=4,
                    rasterized=is_many,
                )
        else:
            ax.plot(values, error, ".", color="#31688e", markersize=4, rasterized=is_many)
        ax.set(xscale="log", xlabel=label)
    for ax in axes[:2]:
        log_counts(ax.xaxis)
    for ax in axes[1:]:
        ax.tick_params(labelleft=False)
    log_flops(axes[2].xaxis)
    axes[0].set_ylabel("residual of log loss (%)")
    one_run = Patch(color=_ONE_RUN, label="sd of one run")
    budget_legend(axes[-1], runs, more=[] if fit.noise is None else [one_run])
    return axes
