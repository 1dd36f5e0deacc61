# SPDX-License-Identifier: Apache-2.0
"""Checks of a configuration's fields, in words that name them. Standard library only.

A configuration comes from a Python file or from disk, so the types are checked too.
"""

import dataclasses
import functools
import types
import typing
from typing import Any, TypeGuard

# Sizes and steps are int32 in JAX.
MAX_SIZE = 2**31 - 1
# Without 64-bit integers JAX drops what lies above: two such seeds could be one.
MAX_SEED = 2**32 - 1
# Products and quotients of a few numbers between these are still floats.
TINY, HUGE = 1e-30, 1e30


def check_kinds(node: object) -> None:
    """Raises ValueError for a field that is declared a tuple or a configuration, and is neither.

    What a tuple of numbers holds, and all other fields, are for the checks below.
    """
    kind: Any = type(node)
    for name, (classes, elements, words) in _kinds(kind).items():
        value = getattr(node, name)
        is_right = isinstance(value, classes)
        if is_right and elements and isinstance(value, tuple):
            is_right = all(isinstance(one, elements) for one in value)
        if not is_right:
            raise ValueError(f"{name}={shown(value)}: must be {words}.")


@functools.cache
def _kinds(kind: type) -> dict[str, tuple[tuple[type, ...], tuple[type, ...], str]]:
    """By field: the classes of its value, of its elements where they are asked for, and words."""
    found = {}
    for name, hint in typing.get_type_hints(kind).items():
        parts = typing.get_args(hint) if _is_union(hint) else (hint,)
        classes = tuple(typing.get_origin(part) or part for part in parts)
        if not all(one in (tuple, type(None)) or _is_configuration(one) for one in classes):
            continue
        inside = [a for part in parts if typing.get_origin(part) is tuple for a in _inner(part)]
        elements = tuple(filter(_is_configuration, inside))
        lists = " or ".join(sorted({one.__name__ for one in elements})) or "values"
        words = [f"a tuple of {lists}, with a comma behind a single one: (x,)"] * (tuple in classes)
        words += [f"of type {one.__name__}" for one in classes if _is_configuration(one)]
        words += ["None"] * (type(None) in classes)
        found[name] = (classes, elements, " or ".join(words))
    return found


def _is_configuration(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _inner(hint: Any) -> list[Any]:
    """Classes that a tuple's elements may have."""
    args = [arg for arg in typing.get_args(hint) if arg is not ...]
    return [one for arg in args for one in (typing.get_args(arg) if _is_union(arg) else (arg,))]


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
