# SPDX-License-Identifier: Apache-2.0
"""What may be asked of a table of others' runs."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

Approach = Literal["surface", "isoflop", "envelope"]
APPROACHES: tuple[Approach, ...] = get_args(Approach)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How a table is read.

    Attributes:
      columns: field of a run -> "column" or "column:unit".
      where: "column=value" of the rows to use.
      best_per: columns; of rows that are alike in all of them the lowest loss is used.
      flops_convention, params_convention: how the table counts.
      allow_missing: fraction of rows that may have diverged, failed or have no loss.
    """

    columns: Mapping[str, str]
    where: tuple[str, ...]
    best_per: tuple[str, ...]
    flops_convention: str | None
    params_convention: str
    allow_missing: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """What is asked of a table that holds no runs.

    Attributes:
      targets: columns to predict; none for the law's own.
      by: a column that tells groups apart; each is fitted by itself.
      predict: a table of rows to predict, and the CSV file for the predictions.
    """

    targets: tuple[str, ...] = ()
    by: str | None = None
    predict: tuple[Path, Path] | None = None

    @property
    def is_asked(self) -> bool:
        return bool(self.targets or self.by or self.predict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Intervals:
    """How intervals are found; None for what the estimator does by itself.

    Attributes:
      n_bootstrap: replicates; 0 for no intervals.
      seed, level, bootstrap: of the replicates, of the intervals, and the method by name.
    """

    n_bootstrap: int | None = None
    seed: int | None = None
    level: float | None = None
    bootstrap: str | None = None

    def given(self) -> dict[str, Any]:
        """What was asked for, as the estimators take it."""
        asked = dataclasses.asdict(self)
        return {name: value for name, value in asked.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitting:
    """How a law is fitted.

    Attributes:
      approach: None for the surface, or for the best size where there is one budget.
      objective: its name, such as "huber:1e-3", or None for the surface's own.
      fixed, tied, bounds: parameters at a value, equal to another, within (low, high).
      curve, tokens, accept, seed_noise: of Approach 2, as `approach2` takes them
        (scaling/approaches/approach2.py); the last two None for what it does by itself.
      weights: a column with those of the runs, or "variance" or "equal" for the optima of
        Approach 2; None for equal ones.
      curves, select: of Approach 1: a table of losses along training, and which of its points
        are the envelope. curves_convention: how that table counts FLOPs; curves_columns,
        curves_where: its columns and the rows to use, as `Reading` has them for runs.
      n_spare: as `scaling.approaches.surface.fit.fit_surface` takes it, or None for its own.
    """

    approach: Approach | None
    law: str
    objective: str | None
    fixed: Mapping[str, float]
    tied: Mapping[str, str]
    bounds: Mapping[str, tuple[float, float]]
    curve: str
    tokens: str
    accept: str | None
    seed_noise: float | None
    weights: str | None
    curves: Path | None
    curves_convention: str
    curves_columns: Mapping[str, str]
    curves_where: tuple[str, ...]
    select: str
    intervals: Intervals
    n_spare: int | None

    @property
    def is_plain(self) -> bool:
        """Whether no approach, law or constraint was asked for, so that others may be shown."""
        return self.approach is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Profiled:
    """A quantity whose interval is found by profile; ``flops`` where it belongs to a budget."""

    quantity: str
    flops: float | None
