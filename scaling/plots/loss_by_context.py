# SPDX-License-Identifier: Apache-2.0
"""Losses against how much of the context a prediction sees."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from scaling.plots.labels import loss_label
from scaling.plots.style import (
    budget_styles,
    caption,
    log_counts,
    new_figure,
    scientific,
    setting_styles,
    styled,
)
from scaling.tables.context_curve import ContextCurve
from scaling.tables.units import NATS


@styled()
def figure_contexts(curves: Sequence[ContextCurve]) -> Figure:
    """A line per run, over the tokens seen; a point stands at the middle of its bin."""
    figure, (ax,) = new_figure()
    budgets = budget_styles(sorted({curve.budget for curve in curves}))
    settings = setting_styles(list(dict.fromkeys(curve.label for curve in curves)))
    of_budgets = len(settings) == 1
    for curve in curves:
        middle = np.sqrt(np.array(curve.least_seen) * np.array(curve.most_seen))
        style = budgets[curve.budget] if of_budgets else settings[curve.label]
        label = scientific(curve.budget) if of_budgets else curve.label
        ax.plot(middle, curve.losses, **style, markersize=3.5, linewidth=1.0, label=label)
    ax.set(xscale="log", xlabel="tokens seen of the window", ylabel=loss_label(NATS))
    log_counts(ax.xaxis)
    ax.set_title("Loss by position in the context")
    title = "FLOPs" if of_budgets else None
    ax.legend(title=title, loc="center left", bbox_to_anchor=(1.0, 0.5))
    what = "at each budget" if of_budgets else "of each setting at its largest budget"
    caption(figure, [f"the run with the lowest loss {what}; bins by powers of two."])
    return figure
