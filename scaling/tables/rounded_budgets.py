# SPDX-License-Identifier: Apache-2.0
"""Budgets that differ by rounding only, as one."""

import numpy as np
from jaxtyping import Float

from scaling.tables.arrays import Array

# Rounding: budgets within this of their group's smallest are one budget ...
ROUNDING = 1e-3
# ... and only where no two groups are nearer than this: otherwise the budgets are a continuum.
APART = 1e-2


def merge_rounded(budget: Float[Array, " n"]) -> tuple[Float[Array, " n"], tuple[str, ...]]:
    """Budgets [n] with those equal to rounding made equal, and what was done, in words.

    1e18 and 1.0000001e18 are one budget asked for. Grouping is safe only where every gap between
    neighbouring values is either rounding (all of a group within 0.1 %) or clearly more (1 %):
    otherwise nothing is grouped, and a sentence says which values are that near. A group takes
    its most frequent value, the smallest of several.
    """
    known = np.isfinite(budget)
    values, counts = np.unique(budget[known], return_counts=True)
    near = np.diff(np.log(values)) < np.log1p(APART)
    if not near.any():
        return budget, ()
    group = np.concatenate([[0], np.cumsum(~near)])
    starts = np.flatnonzero(np.concatenate([[True], ~near]))
    ends = np.append(starts[1:], len(values)) - 1
    wide = values[ends] / values[starts] - 1.0 > ROUNDING
    if wide.any():
        i = int(starts[np.argmax(wide)])
        return budget, (
            f"budgets such as {values[i]:.8g} and {values[i + 1]:.8g} FLOPs lie near each other "
            "and are kept apart: nothing says which were meant to be equal.",
        )
    pieces = zip(np.split(values, starts[1:]), np.split(counts, starts[1:]), strict=True)
    usual = np.array([some[np.argmax(often)] for some, often in pieces])
    most = np.max(values[ends] / values[starts]) - 1.0
    merged = budget.copy()
    merged[known] = usual[group[np.searchsorted(values, budget[known])]]
    return merged, (
        f"{len(values)} budgets that differ by rounding (by up to {most:.1g}) are "
        f"taken as {len(usual)}.",
    )
