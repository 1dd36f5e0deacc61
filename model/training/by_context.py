# SPDX-License-Identifier: Apache-2.0
"""Losses by how much of its window a prediction sees: bins by powers of two. No JAX."""

import itertools
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextLoss:
    """Of the predictions that see so many tokens of their window.

    Attributes:
      least_seen, most_seen: tokens before the one that is predicted, the first of the window
        among them.
      nats: mean per unit.
      n_units: measured on.
    """

    least_seen: int
    most_seen: int
    nats: float
    n_units: int


def context_bins(length: int) -> list[tuple[int, int]]:
    """(first position, end) of each bin, of the targets of a window: the p-th sees p + 1 tokens.
    The bins are of 1, 2 to 3, 4 to 7, ... tokens seen; the last ends with the window."""
    edges = [2**power - 1 for power in range(length.bit_length())]
    return [*itertools.pairwise([*edges, length])]
