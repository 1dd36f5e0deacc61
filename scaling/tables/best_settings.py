# SPDX-License-Identifier: Apache-2.0
"""Of runs at several settings those of the best ones, and what is left out, in words."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scaling.tables.runs import Runs


def best_settings(runs: Runs, axes: Sequence[str]) -> tuple[Runs, tuple[str, ...]]:
    """Runs at the best setting of each (budget, n_params), and what was left out, in words.

    A study that also varies a learning rate or a batch has several settings per point of the
    grid. Per (budget, n_params) the setting with the lowest mean loss over its repeats is kept,
    with all of them. The lowest of several noisy means is too low by about one standard error:
    a law fitted over all settings does better where there are enough of them.

    Args:
      runs: rows that are not ok count against no setting and are dropped.
      axes: names of extra columns that together are a setting.

    Raises:
      ValueError: if an axis is not a column of the table.
    """
    missing = [axis for axis in axes if axis not in runs.extra]
    if missing:
        raise ValueError(
            f"runs have no column {', '.join(missing)}; "
            f"there are: {', '.join(sorted(runs.extra)) or 'none'}"
        )
    usable = np.flatnonzero(runs.is_ok)
    groups: dict[Any, dict[Any, list[int]]] = {}
    for i in usable:
        setting = tuple(runs.extra[axis][i] for axis in axes)
        cell = groups.setdefault((runs.budget[i], runs.n_params[i]), {})
        cell.setdefault(setting, []).append(int(i))
    kept: list[int] = []
    for cell in groups.values():
        means = {setting: float(np.mean(runs.loss_nats[rows])) for setting, rows in cell.items()}
        kept += cell[min(means, key=lambda setting: means[setting])]
    left = len(runs) - len(kept)
    finding = (
        f"{left} of {len(runs)} runs are left out: only the best setting of "
        f"({', '.join(axes)}) by mean loss is kept per budget and size."
    )
    return runs.select(sorted(kept)), (finding,) if left else ()


def best_kind(runs: Runs, axes: Sequence[str]) -> tuple[Runs, tuple[str, ...]]:
    """Runs of the best setting of axes that have no numbers, such as architectures: each follows a
    law of its own, and so one of them is kept, with what was left out, in words.

    It is the one with the lowest mean loss over repeats at the largest budget that has runs.

    Args:
      runs: as ``best_settings``.
      axes: names of extra columns of texts or flags.
    """
    settings = np.asarray(
        ["; ".join(map(str, row)) for row in zip(*(runs.extra[a] for a in axes), strict=True)]
    )
    top = runs.is_ok & (runs.budget == np.max(runs.budget[runs.is_ok]))
    means = {
        (setting, size): float(np.mean(runs.loss_nats[rows]))
        for setting, size in {(settings[i], runs.n_params[i]) for i in np.flatnonzero(top)}
        for rows in [top & (settings == setting) & (runs.n_params == size)]
    }
    best, _ = min(means, key=lambda key: (means[key], key))
    others = sorted({*settings.tolist()} - {best})
    finding = (
        f"fitted are the runs of {', '.join(axes)} = {best}, which has the lowest loss at the "
        f"largest budget. `isoflop fit TABLE --where` fits the others: {', '.join(others)}."
    )
    return runs.select(np.flatnonzero(settings == best)), (finding,) if others else ()
