# SPDX-License-Identifier: Apache-2.0
"""Values of options that are lists: NAME=VALUE,NAME=VALUE and 1e20,1e21."""

import math
import re
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def pairs(flag: str, texts: list[str] | None, parse: Callable[[str], T]) -> dict[str, T]:
    """NAME=VALUE,NAME=VALUE of a flag that may be repeated; a piece without = belongs to the value
    before it, for names of columns may hold commas.

    Raises:
      ValueError: for text that is no such list, or a name that occurs twice.
    """
    found: dict[str, T] = {}
    for item in (item for text in texts or () for item in re.split(r",(?=[^,]*=)", text)):
        name, sign, value = (part.strip() for part in item.partition("="))
        if not (name and sign and value):
            raise ValueError(f"{flag} {item.strip()!r} is not of the form NAME=VALUE")
        if name in found:
            raise ValueError(f"{flag} names {name} twice")
        try:
            found[name] = parse(value)
        except ValueError:
            raise ValueError(f"{flag} {item}: {value!r} is not a number or a range") from None
    return found


def numbers(flag: str, text: str | None) -> list[float]:
    """Positive numbers from text like 1e20,1e21."""
    try:
        found = [finite(item) for item in (text or "").split(",")]
    except ValueError:
        found = []
    if not found or not all(value > 0 for value in found):
        raise ValueError(f"{flag} {text!r} is not a list of positive numbers like 1e20,1e21")
    return found


def finite(text: str) -> float:
    """A number that is finite; raises ValueError for any other text."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def span(text: str) -> tuple[float, float]:
    """Two finite numbers LOW:HIGH; raises ValueError for any other text."""
    low, sign, high = text.partition(":")
    if not sign:
        raise ValueError(text)
    return finite(low), finite(high)
