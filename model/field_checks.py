# SPDX-License-Identifier: Apache-2.0
"""Checks of a configuration's fields, in words that name them. Standard library only.

A configuration comes from a Python file or from disk, so the types are checked too.
"""

from typing import TypeGuard

# Sizes and steps are int32 in JAX.
MAX_SIZE = 2**31 - 1
# Without 64-bit integers JAX drops what lies above: two such seeds could be one.
MAX_SEED = 2**32 - 1
# Products and quotients of a few numbers between these are still floats.
TINY, HUGE = 1e-30, 1e30


def check_whole(node: object, names: str, *, low: int = 1, high: int = MAX_SIZE) -> None:
    """Raises ValueError for a field of ``names`` that is no whole number in [low, high]."""
    for name in names.split():
        value = getattr(node, name)
        if not is_whole(value) or not low <= value <= high:
            raise ValueError(f"{name}={shown(value)}: must be a whole number from {low} to {high}.")


def check_real(node: object, names: str, *, low: float = TINY, high: float = HUGE) -> None:
    """Raises ValueError for a field of ``names`` that is no number in [low, high]."""
    for name in names.split():
        value = getattr(node, name)
        if not is_real(value) or not low <= value <= high:
            raise ValueError(f"{name}={shown(value)}: must be a number from {low:g} to {high:g}.")


def is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def is_real(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_choice(node: object, name: str, legal: tuple[str, ...]) -> None:
    """Raises ValueError for a field that is none of ``legal``."""
    value = getattr(node, name)
    if not isinstance(value, str) or value not in legal:
        raise ValueError(f"{name}={shown(value)}: must be one of {', '.join(legal)}.")


def check_flags(node: object, names: str) -> None:
    """Raises ValueError for a field of ``names`` that is neither True nor False."""
    for name in names.split():
        value = getattr(node, name)
        if not isinstance(value, bool):
            raise ValueError(f"{name}={shown(value)}: must be true or false.")


def check_text(node: object, names: str) -> None:
    """Raises ValueError for a field that is no text which a file can hold."""
    for name in names.split():
        value = getattr(node, name)
        try:
            is_text = isinstance(value, str) and value.encode("utf-8") is not None
        except UnicodeEncodeError:
            is_text = False
        if not is_text:
            raise ValueError(f"{name}={shown(value)}: must be text in UTF-8.")


def shown(value: object) -> str:
    """A value for a message: on one line, and short."""
    try:
        text = ascii(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def one_line(text: str, most: int = 300) -> str:
    """A message as one printable line, its middle left out where it is longer than ``most``."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= most else f"{line[: most // 2]} ... {line[-most // 2 :]}"
