# SPDX-License-Identifier: Apache-2.0
"""Labels of axes, and the legend of budgets."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from scaling.fit import Fit
from scaling.plots.style import budget_styles, log_losses, scientific
from scaling.tables.runs import Runs
from scaling.tables.units import NATS_IMAGE, NATS_PIXEL, bits_words

N_LABEL = "parameters"


def loss_label(unit: str) -> str:
    return f"loss ({unit})"


def label_losses(ax: Axes, unit: str, bits_per_nat: float | None) -> None:
    """Names the vertical axis, and where it is known puts one in bits at the right.

    Args:
      bits_per_nat: as Runs have it.
    """
    ax.set_ylabel(loss_label(unit))
    if bits_per_nat is None:
        return
    there, back = (partial(np.multiply, factor) for factor in (bits_per_nat, 1.0 / bits_per_nat))
    right = ax.secondary_yaxis("right", functions=(there, back))
    right.set_ylabel(loss_label(bits_words(unit)))
    if ax.get_yscale() == "log":
        log_losses(right.yaxis)


def has_budgets(runs: Runs) -> bool:
    """Whether runs share budgets, so that colour by budget means something."""
    return len(runs.budgets) <= max(12, len(runs) // 3)


def titled(title: str, fit: Fit) -> str:
    """The title, which says so if the fit is not certified."""
    return title if fit.is_certified else f"{title}, not certified"


def budget_legend(
    ax: Axes, runs: Runs, *, left_out: set[float] | None = None, more: Sequence[Artist] = ()
) -> None:
    handles = list(more)
    if has_budgets(runs):
        for budget, style in budget_styles(runs.budgets).items():
            is_out = budget in (left_out or ())
            label = scientific(budget) + (" (left out)" if is_out else "")
            face = "none" if is_out else style["color"]
            handle = Line2D([], [], **style, linestyle="none", markerfacecolor=face, label=label)
            handles.insert(0, handle)
    if handles:
        # Beside the axes: inside, it would hide runs of one end of the grid.
        title = "FLOPs" if has_budgets(runs) else None
        columns = 1 + (len(handles) - 1) // 14
        ax.legend(
            handles=handles,
            title=title,
            alignment="left",
            loc="center left",
            bbox_to_anchor=(1.14 if ax.child_axes else 1.0, 0.5),
            ncols=columns,
        )


def flops_label(runs: Runs) -> str:
    """Axis label of compute, naming the FLOP convention."""
    return f"training FLOPs ({runs.flops_convention})"


def tokens_label(runs: Runs | None) -> str:
    """Axis label of D, naming what is counted."""
    if runs is None:
        return "training tokens"
    if runs.loss_unit in (NATS_PIXEL, NATS_IMAGE):
        return "training pixels"
    return "training bytes" if runs.are_bytes else "training tokens"


def params_label(runs: Runs) -> str:
    return f"{N_LABEL} ({runs.params_convention.replace('_', '-')})"
