# SPDX-License-Identifier: Apache-2.0
"""Numbers with their intervals, as text that a person reads."""

import math

from scaling.intervals import Estimated, Interval
from scaling.tables.units import count


def with_interval(value: float, interval: Interval, form: str) -> str:
    """ "1.22 (1.2 to 1.25)"; form: of each number, such as "{:.2f}"."""
    if not interval.is_known:
        return f"{form.format(value)} (no interval)"
    ends = f"{form.format(interval.lower)} to {form.format(interval.upper)}"
    return f"{form.format(value)} ({ends})"


def counted(found: Estimated) -> str:
    """A count and its interval: 14.3k (12.1k to 16.4k)."""
    if not found.interval.is_known:
        return f"{count(found.value)} (no interval)"
    return f"{count(found.value)} ({count(found.interval.lower)} to {count(found.interval.upper)})"


def loss_text(loss: Estimated) -> str:
    """A loss and its interval, digits down to a tenth of the interval's width, two to five."""
    width = loss.interval.upper - loss.interval.lower
    digits = 1 - math.floor(math.log10(width)) if loss.interval.is_known and width > 0 else 4
    return with_interval(loss.value, loss.interval, f"{{:.{min(max(digits, 2), 5)}f}}")
