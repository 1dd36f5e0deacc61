# SPDX-License-Identifier: Apache-2.0
"""One published result computed again from its table: numbers side by side, and a figure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from matplotlib.figure import Figure

TABLES = Path(__file__).parents[2] / "results" / "published"
# Half a unit of the last digit, and as much again of rounding as float64 may add.
_HALF_UNIT = 0.5 * (1 + 1e-6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One number: theirs and ours.

    Fields:
      reference: what the source or an independent implementation obtained.
      kind: "checked" where an independent implementation obtained the reference from the same
        table, so that ours must be equal to `tolerance`; "published" where the reference is the
        source's own and need not be the optimum of its objective: shown, not judged; "not higher"
        where ours must not exceed it.
      tolerance: absolute, of the kinds that are judged.
      note: why they differ, where they do.
    """

    what: str
    reference: float
    ours: float
    kind: str = "checked"
    tolerance: float = 0.0
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


def last_digit(text: str) -> float:
    """One unit of the last digit of a printed number: 0.01 for "482.01", 100 for "4.675e5"."""
    exponent = Decimal(text).as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError(f"{text!r} is no finite number; print the reference with its digits")
    return 10.0**exponent


def compare(
    what: str, printed: str, ours: float, *, kind: str = "checked", note: str = ""
) -> Comparison:
    """Ours beside a number as its source prints it, equal when it rounds to the digits given."""
    return Comparison(
        what=what,
        reference=float(printed),
        ours=float(ours),
        kind=kind,
        tolerance=_HALF_UNIT * last_digit(printed),
        note=note,
    )


def compare_all(
    label: str,
    printed: Mapping[str, str],
    ours: Mapping[str, float],
    *,
    kind: str = "checked",
    note: str = "",
) -> list[Comparison]:
    """One comparison for each printed number, "label, name"."""
    return [
        compare(f"{label}, {name}", text, ours[name], kind=kind, note=note)
        for name, text in printed.items()
    ]


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
