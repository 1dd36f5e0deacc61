# SPDX-License-Identifier: Apache-2.0
"""One published result computed again from its table: numbers side by side, and a figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

TABLES = Path(__file__).parents[2] / "results" / "published"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One number: theirs and ours.

    Fields:
      reference: what the source or an independent implementation obtained.
      kind: "checked" where an independent implementation obtained the reference from the same
        table, so that ours must be equal to `tolerance`; "published" where the reference is the
        source's own and need not be the optimum of its objective; "not higher" where ours must
        not exceed it.
      tolerance: absolute; half a unit of the last digit given.
      note: why they differ, where they do.
    """

    what: str
    reference: float
    ours: float
    kind: str
    tolerance: float
    note: str = ""

    @property
    def difference(self) -> float:
        return self.ours - self.reference

    @property
    def holds(self) -> bool:
        """Whether a checked number is met; a published one is shown, not judged."""
        if self.kind == "not higher":
            return self.difference <= self.tolerance
        return self.kind == "published" or abs(self.difference) <= self.tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """What a case returns: comparisons, its figure, and sentences."""

    comparisons: tuple[Comparison, ...]
    figure: Figure
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A published result. `run` takes the folder of tables."""

    name: str
    title: str
    paper: str
    run: Callable[[Path], Reproduction]
