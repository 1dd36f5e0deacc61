# SPDX-License-Identifier: Apache-2.0
"""Losses of several settings on several domains."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from scaling.plots.style import caption, new_figure, styled
from scaling.tables.units import BITS

_MOST_ROWS = 30


@styled()
def figure_loss_matrix(
    settings: Sequence[str],
    domains: Sequence[str],
    losses: Float[np.ndarray, "n_settings n_domains"],
    bits: Float[np.ndarray, "n_settings n_domains"] | Float[np.ndarray, "n_settings 0"],
    loss_unit: str,
) -> Figure:
    """A cell for each setting and domain: its loss, its shade by how much that is above the
    lowest of its domain.

    Args:
      losses: in `loss_unit`.
      bits: the same in bits per byte, below it in the cell; of no column where not all are known.
    """
    shown = losses[:_MOST_ROWS]
    is_in_bits = bits.shape == losses.shape
    figure, (ax,) = new_figure(height=(0.4 if is_in_bits else 0.27) * len(shown) + 1.0)
    above = shown - np.nanmin(losses, axis=0)
    ax.imshow(above, aspect="auto", cmap="Blues", vmin=0.0, vmax=max(float(np.nanmax(above)), 1e-9))
    for (row, column), loss in np.ndenumerate(shown):
        is_dark = above[row, column] > 0.6 * np.nanmax(above)
        color = "white" if is_dark else "black"
        text = f"{loss:.4f}\n{bits[row, column]:.4f}" if is_in_bits else f"{loss:.4f}"
        ax.text(column, row, text, ha="center", va="center", color=color, fontsize=7)
    ax.set_xticks(range(len(domains)), domains)
    ax.set_yticks(range(len(shown)), settings[:_MOST_ROWS])
    ax.grid(False)
    ax.tick_params(length=0)
    ax.xaxis.tick_top()
    for spine in ax.spines.values():
        spine.set_visible(False)
    unit = f"{loss_unit}, below it {BITS}" if is_in_bits else loss_unit
    said = [
        f"in {unit}.",
        "of each budget and setting the size with the lowest loss of all; nothing is fitted.",
    ]
    if len(losses) > len(shown):
        said.append(f"the first {len(shown)} of {len(losses)} rows.")
    caption(figure, said)
    return figure
