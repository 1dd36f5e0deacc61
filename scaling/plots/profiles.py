# SPDX-License-Identifier: Apache-2.0
"""Axes of profiles and of bootstrap replicates against one another."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.fit import Fit
from scaling.plots.style import WIDTH, caption, new_figure, scientific, styled
from scaling.profiles.profile import Profile
from scaling.tables.arrays import Array

_LINE, _MARK, _CLOUD = "#0072b2", "#d55e00", "#999999"
_LABELS = {
    "n_params_opt": "N*",
    "n_tokens_opt": "D*",
    "loss_opt": "L*",
    "exponent_a": "a",
    "exponent_b": "b",
}
# A quantity that spans more than this factor is drawn on a logarithmic axis.
_LOGARITHMIC = 3.0


def plot_profile(ax: Axes, found: Profile) -> Axes:
    """Excess of the objective over its minimum, in units of the threshold.

    The interval lies where the curve is below 1; open markers are held values without a certified
    minimum. The title says where the threshold comes from, and whether the profile is flat.
    """
    excess = np.maximum(found.excess, 0.0)
    ax.plot(found.grid, excess, color=_LINE, linewidth=1.6)
    doubtful = ~found.is_certified
    ax.plot(found.grid[doubtful], excess[doubtful], "o", mfc="none", color=_LINE, markersize=5)
    ax.axhline(1.0, color="#444444", linestyle="--", linewidth=0.8)
    ends = found.interval
    left, right = np.clip([ends.lower, ends.upper], found.grid[0], found.grid[-1])
    ax.axvspan(left, right, color=_LINE, alpha=0.1, lw=0)
    ax.axvline(found.estimate, color=_MARK, linewidth=1.2)
    if found.grid[0] > 0 and found.grid[-1] > _LOGARITHMIC * found.grid[0]:
        ax.set_xscale("log")
    ax.set(ylim=(0.0, 2.0), xlabel=_label(found.quantity, found.flops))
    ax.set_ylabel("objective over its minimum (1 ends the interval)")
    note = ", flat" if found.flat else ""
    ax.set_title(f"{100 * found.level:g} % by {found.calibration}{note}")
    return ax


def plot_bootstrap_pairs(
    axes: Sequence[Sequence[Axes]], fit: Fit, names: Sequence[str]
) -> Sequence[Sequence[Axes]]:
    """Replicates of each parameter against each other one; the estimate is the cross.

    Args:
      axes: [names - 1][names - 1]; those above the diagonal are hidden.
      names: of `fit.replicates`, at least two.

    Raises:
      ValueError: for a name that the fit has no replicates of.
    """
    unknown = [name for name in names if name not in fit.replicates]
    if unknown or len(names) < 2:
        raise ValueError(
            f"no pairs of {', '.join(names) or 'nothing'}: give two or more of "
            f"{', '.join(fit.replicates)}"
        )
    estimates = {**fit.parameters, **fit.exponents}
    for row in axes:
        for ax in row:
            ax.set_visible(False)
    for (j, x), (i, y) in combinations(enumerate(names), 2):
        ax = axes[i - 1][j]
        ax.set_visible(True)
        ax.plot(fit.replicates[x], fit.replicates[y], ".", color=_CLOUD, markersize=2, alpha=0.6)
        ax.plot(estimates[x], estimates[y], "+", color=_MARK, markersize=10, markeredgewidth=1.6)
        for name, scale in ((x, ax.set_xscale), (y, ax.set_yscale)):
            if _spans(fit.replicates[name]):
                scale("log")
        ax.set_xlabel(_LABELS.get(x, x) if i == len(names) - 1 else "")
        ax.set_ylabel(_LABELS.get(y, y) if j == 0 else "")
    return axes


@styled()
def figure_profiles(profiles: Sequence[Profile]) -> Figure:
    """One panel per profile; their findings are the caption."""
    figure, axes = new_figure(len(profiles), height=2.8)
    for ax, found in zip(axes, profiles, strict=True):
        plot_profile(ax, found)
    for ax in axes[1:]:
        ax.set_ylabel("")
    findings = dict.fromkeys(sentence for found in profiles for sentence in found.findings)
    caption(figure, findings or ["shaded: the interval; vertical line: the estimate."])
    return figure


@styled()
def figure_bootstrap_pairs(
    fit: Fit, names: Sequence[str] = ("E", "exponent_a", "alpha", "beta")
) -> Figure:
    """The replicates of a fit in pairs; the bootstrap and the status are the caption."""
    n = max(len(names) - 1, 1)
    figure = Figure(figsize=(WIDTH, WIDTH), layout="constrained")
    plot_bootstrap_pairs(figure.subplots(n, n, squeeze=False).tolist(), fit, names)
    drawn = f"{fit.bootstrap.n_replicates} {fit.bootstrap.method} replicates"
    caption(figure, [f"{fit.name}: {drawn}; {fit.status.value}."])
    return figure


def _label(quantity: str, flops: float | None) -> str:
    name = _LABELS.get(quantity, quantity)
    return name if flops is None else f"{name} at {scientific(flops)} FLOPs"


def _spans(values: Array) -> bool:
    finite = values[np.isfinite(values)]
    return len(finite) > 0 and finite.min() > 0 and finite.max() > _LOGARITHMIC * finite.min()
