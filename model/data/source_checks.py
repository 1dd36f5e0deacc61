# SPDX-License-Identifier: Apache-2.0
"""What a field of a data source may be, and the line that refuses it. Standard library only."""

from typing import Any


def check_fraction(kind: str, value: object) -> None:
    check_real(kind, "validation_fraction", value, 0.0, 1.0)


def check_that(source: Any, name: str, is_legal: bool, legal: str) -> None:
    if not is_legal:
        raise ValueError(
            f"{name} of source {source.kind!r} is {getattr(source, name)!r}: it must be {legal}. "
            "Correct the data source of the study."
        )


def is_encoding(name: object) -> bool:
    """Whether it is one between text and bytes; Python has others, such as "rot13"."""
    try:
        return isinstance(name, str) and "".encode(name) is not None
    except (LookupError, ValueError):
        return False


def check_real(
    kind: str, name: str, value: object, low: float, high: float, *, closed: bool = False
) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (low < value < high or (closed and value in (low, high))):  # type: ignore[operator]
        sign = "<=" if closed else "<"
        raise ValueError(
            f"{name} of source {kind!r} is {value!r}: it must be a number x with "
            f"{low:g} {sign} x {sign} {high:g}. Correct the data source of the study."
        )


def check_int(kind: str, name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(
            f"{name} of source {kind!r} is {value!r}: it must be an integer in [{low}, {high}]. "
            "Correct the data source of the study."
        )


def check_held_out(source: Any) -> None:
    fraction, paths = source.validation_fraction, source.validation_paths
    if (fraction is None) == (paths is None):
        raise ValueError(
            f"validation_fraction of source {source.kind!r} is {fraction!r} and validation_paths "
            f"is {paths!r}: give one of them, a share of the documents or files of their own."
        )
    if paths is None:
        check_fraction(source.kind, fraction)
    else:
        check_paths(source.kind, "validation_paths", paths)


def check_paths(kind: str, name: str, paths: object) -> None:
    legal = isinstance(paths, tuple) and len(paths) > 0
    if not legal or not all(isinstance(p, str) and p and "\0" not in p for p in paths):  # type: ignore[attr-defined]
        raise ValueError(
            f"{name} of source {kind!r} is {paths!r}: it must be a tuple of one or more file or "
            'folder names, such as ("texts", "more.jsonl.xz").'
        )
