# SPDX-License-Identifier: Apache-2.0
"""References as their sources print them: the digits say how closely ours must agree."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from scaling.published.case import Comparison

# Half a unit of the last digit, and as much again of rounding as float64 may add.
_HALF_UNIT = 0.5 * (1 + 1e-6)


def last_digit(text: str) -> float:
    """One unit of the last digit of a printed number: 0.01 for "482.01", 100 for "4.675e5"."""
    exponent = Decimal(text).as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError(f"{text!r} is no finite number; print the reference with its digits")
    return 10.0**exponent


def compare(
    what: str, printed: str, ours: float, *, kind: str = "checked", note: str = ""
) -> Comparison:
    """Ours beside a printed number, equal when it rounds to the digits given."""
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
