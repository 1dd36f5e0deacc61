# SPDX-License-Identifier: Apache-2.0
"""Mean losses against one column of a table, where all else is the same or is at its best; and the
loss of one run by how many tokens a prediction sees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.tables.arrays import Array
from scaling.tables.runs import Runs
from scaling.tables.short_repr import ShortRepr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class LossCurve(ShortRepr):
    """Loss against one column.

    Fields:
      at: the columns that are the same along the curve, with their values.
      values: of the column, ascending, [V].
      losses: in the unit of the runs, the lowest mean over repeats that any of the other settings
        has; NaN where no run has a loss, [V].
      errors: standard errors of these means, from the scatter of repeats pooled along the curve;
        NaN where nothing was repeated, [V].
      setting: the name of what else is the same along the curve; "": nothing has one.
    """

    at: Mapping[str, float]
    values: Float[Array, " V"]
    losses: Float[Array, " V"]
    errors: Float[Array, " V"]
    setting: str = ""

    @property
    def lowest(self) -> int | None:
        """Row of the lowest loss; None where there is no loss."""
        return int(np.nanargmin(self.losses)) if np.isfinite(self.losses).any() else None

    @property
    def is_at_edge(self) -> bool:
        """Whether the lowest loss is that of the first or the last value: a lower may lie beyond.

        A value whose runs all diverged lies beyond, too, and is seen not to be lower.
        """
        return self.lowest in (0, len(self.values) - 1)

    @property
    def ties(self) -> list[int]:
        """Rows whose loss is that of the lowest to within the standard error of their difference,
        without the lowest."""
        if self.lowest is None:
            return []
        above = self.losses - self.losses[self.lowest]
        is_tied = above <= np.hypot(self.errors, self.errors[self.lowest])
        return [int(row) for row in np.flatnonzero(is_tied) if row != self.lowest]


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextCurve:
    """The loss of one run in bins of predictions, by the tokens before them.

    Attributes:
      label: of the run's setting; "" where a study has one only.
      budget: training FLOPs.
      least_seen, most_seen: of each bin, in tokens.
      losses: the mean of each, in nats per token.
    """

    label: str
    budget: float
    least_seen: tuple[int, ...]
    most_seen: tuple[int, ...]
    losses: tuple[float, ...]


def loss_curves(
    runs: Runs, column: str, same: Sequence[str], others: Sequence[str] = (), setting: str = ""
) -> list[LossCurve]:
    """A curve for each combination of ``same``, by ascending values of those.

    Args:
      runs: of those that are not ok only the values count.
      column: a column of numbers. same: columns of numbers that tell the curves apart.
      others: columns of settings, of which the best counts at each value.
      setting: the name of that of all these runs.
    """
    columns = {**runs.extra, **{name: getattr(runs, name) for name in ("budget", "n_params")}}
    found: dict[tuple, dict[float, dict[tuple, list[float]]]] = {}
    for i, is_ok in enumerate(runs.is_ok):
        key = tuple(float(columns[name][i]) for name in same)
        settings = found.setdefault(key, {}).setdefault(float(columns[column][i]), {})
        if is_ok:
            chosen = tuple(columns[name][i] for name in others)
            settings.setdefault(chosen, []).append(float(runs.loss_nats[i]))
    return [
        _curve(dict(zip(same, key, strict=True)), by_value, setting)
        for key, by_value in sorted(found.items())
    ]


def _curve(
    at: Mapping[str, float], by_value: Mapping[float, Mapping[tuple, list[float]]], setting: str
) -> LossCurve:
    values = sorted(by_value)
    best = [min(by_value[value].values(), key=np.mean, default=[]) for value in values]
    repeats = [losses for settings in by_value.values() for losses in settings.values()]
    spare = sum(len(losses) - 1 for losses in repeats)
    squares = sum(float(np.var(losses) * len(losses)) for losses in repeats)
    sd = np.sqrt(squares / spare) if spare else np.nan
    return LossCurve(
        at=at,
        values=np.array(values),
        losses=np.array([np.mean(losses) if losses else np.nan for losses in best]),
        errors=np.array([sd / np.sqrt(len(losses)) if losses else np.nan for losses in best]),
        setting=setting,
    )
