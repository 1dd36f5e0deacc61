# SPDX-License-Identifier: Apache-2.0
"""Lists of numbers on the command line, ``16,32,64``, as types of argparse."""

import argparse
import math
from pathlib import Path
from typing import TypeVar

from model.field_checks import MAX_SEED, MAX_SIZE, shown

Number = TypeVar("Number", int, float)


def file_path(text: str) -> Path:
    """A file or folder; an empty text, as of a variable that is not set, is none."""
    if not text.strip():
        raise argparse.ArgumentTypeError("'' is no path: name a file or folder, such as ./results")
    return Path(text)


def whole_number(text: str, low: int = 1, high: int = MAX_SIZE) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(
            f"{shown(text)}: must be a whole number from {low} to {high}"
        )
    return value


def whole_numbers(text: str) -> tuple[int, ...]:
    """Distinct and ascending, each at least 1."""
    return _ascending(text, tuple(whole_number(part) for part in text.split(",")))


def seeds(text: str) -> tuple[int, ...]:
    return _ascending(text, tuple(whole_number(p, 0, MAX_SEED) for p in text.split(",")))


def positive_numbers(text: str) -> tuple[float, ...]:
    """Distinct, ascending and finite, each above 0."""
    return _ascending(text, tuple(positive_number(part) for part in text.split(",")))


def positive_number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{shown(text)}: must be a positive number")
    return value


def _ascending(text: str, values: tuple[Number, ...]) -> tuple[Number, ...]:
    if list(values) != sorted(set(values)):
        raise argparse.ArgumentTypeError(f"{shown(text)}: must be ascending, each once")
    return values


def run_sizes(text: str) -> list[tuple[float, float]]:
    """(parameters, tokens) of N:D,N:D."""
    try:
        pairs = [one.split(":") for one in text.split(",")]
        return [(_count(n_params), _count(n_tokens)) for n_params, n_tokens in pairs]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{shown(text)}: must be N:D, such as 7e10:1.4e12 or 70B:1.4T"
        ) from None


def _count(text: str) -> float:
    from scaling.tables.csv_spelling import with_letter  # NumPy: not for every command.

    value = with_letter(text)
    return positive_number(text) if math.isnan(value) else value
