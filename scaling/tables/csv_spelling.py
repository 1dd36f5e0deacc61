# SPDX-License-Identifier: Apache-2.0
"""How a table is spelt: which line is its header, what separates cells, commas and letters in
numbers."""

import csv
import io
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scaling.tables.arrays import Array

# Of two that divide a header alike the first is meant.
_DELIMITERS = (",", "\t", ";", "|")
# Lines among which a header is looked for.
_HEADER_WITHIN = 10
_NUMERAL = re.compile(r"[+-]?[\d.,]+([eE][+-]?\d+)?(\s?[KMBGTkmbgt])?")
_WITH_DECIMAL_COMMA = re.compile(r"[+-]?\d+(,\d+)?([eE][+-]?\d+)?(\s?[KMBGTkmbgt])?")
# 1,234 alone may be a thousand and more.
_SURELY_DECIMAL = re.compile(r"[+-]?(0\d*,|\d+,(?!\d{3}(\s?[A-Za-z])?$))")
_WITH_LETTER = re.compile(r"(\d+\.?\d*(?:[eE][+-]?\d+)?)\s?([KMBGTkmbgt])")
_LETTERS = {"K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
_WITH_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?")
# Among decimal commas 1.026 is 1026 to whoever writes so, and to Python a little more than 1.
_WITH_THOUSANDS_POINTS = re.compile(r"([+-]?[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?)(\s?[KMBGTkmbgt])?")
# 1,234 alone may be a decimal comma.
_SURELY_THOUSANDS = re.compile(r"\d{1,3}(,\d{3}){2,}(\.\d+)?|\d{1,3},\d{3}\.\d+")


def header(text: str) -> tuple[list[str], int, str, tuple[str, ...]]:
    """Lines from the header on, how many lines stand before it, what separates its cells, and
    what was passed over, in words.

    Comments stand before it, a line "sep=;" and titles: lines of fewer cells than a line of words
    below them, which has as many as the line below it.
    """
    lines, stated = list(io.StringIO(text, newline="")), ""
    filled: list[int] = []
    for number, line in enumerate(lines):
        plain = line.strip().strip('"')
        if plain.lower().startswith("sep=") and len(plain) == 5 and not filled:
            stated = plain[-1]
        elif plain and not plain.startswith("#"):
            filled.append(number)
        if len(filled) > _HEADER_WITHIN:
            break
    if not filled:
        return [], len(lines), stated or ",", ()
    n_titles = _n_titles([lines[number] for number in filled], stated)
    first = filled[n_titles]
    notes = tuple(
        f"line {number + 1}, {lines[number].strip()[:60]!r}, is passed over as a title: the header "
        f"is line {first + 1}."
        for number in filled[:n_titles]
    )
    return lines[first:], first, stated or _delimiter(lines[first]), notes


def _n_titles(lines: Sequence[str], stated: str) -> int:
    """How many lines stand above the header; 0 if that is not plain."""
    for n_titles, (line, below) in enumerate(itertools.pairwise(lines)):
        mark = stated or _delimiter(line)
        names = _cells(line, mark)
        if _n_filled(names) > 1 and len(names) == len(_cells(below, mark)):
            are_words = not any(is_number(name.replace(",", ".")) for name in names)
            most = max((_n_filled(_cells(title, mark)) for title in lines[:n_titles]), default=0)
            if not n_titles or (are_words and most < len(names)):
                return n_titles
        if line.count('"') % 2:  # A cell goes on in the next line.
            return 0
    return 0


def _delimiter(line: str) -> str:
    return max(_DELIMITERS, key=lambda mark: len(_cells(line, mark)))


def _cells(line: str, mark: str) -> list[str]:
    return next(csv.reader([line[:10_000]], delimiter=mark), [])


def _n_filled(cells: Sequence[str]) -> int:
    return sum(bool(cell.strip()) for cell in cells)


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def spelt_numbers(cells: Sequence[Any]) -> tuple[Array, str] | None:
    """Numbers of cells such as 124M or 1,000,000, and what was read as what.

    None where a cell with a digit is neither, where all can be read as they are, and where some
    lack the letter that others have.
    """
    texts = [str(cell).strip() for cell in cells]
    odd = [text for text in texts if not is_number(text) and any(sign.isdigit() for sign in text)]
    if not odd:
        return None
    if is_mixed(texts):
        return None
    if all(_WITH_LETTER.fullmatch(text) for text in odd):
        read, how = with_letter, "letters are read as thousands, millions, billions, trillions"
    elif all(_WITH_THOUSANDS.fullmatch(text) for text in odd) and any(
        _SURELY_THOUSANDS.fullmatch(text) for text in odd
    ):
        read, how = _with_thousands, "commas are read as marks of thousands"
    else:
        return None
    spelt = frozenset(odd)
    values = [read(text) if text in spelt else _number(text) for text in texts]
    return np.array(values, float), f"{how}: {odd[0]} is {read(odd[0]):g}."


def hint(text: str, *, has_unit: bool, is_mixed: bool) -> str:
    """What to do about a cell that is not read as a number, in parentheses, or nothing.

    Args:
      has_unit: its column was given one, such as :M. is_mixed: of its column.
    """
    if _WITH_LETTER.fullmatch(text):
        if has_unit:
            return " (it has a letter, and the column a unit: leave one of them out)"
        if is_mixed:
            return " (other cells have no letter, and are a thousand times smaller: write one unit)"
    return " (write it with a decimal point, and without a comma)" if "," in text else ""


def is_mixed(cells: Sequence[Any]) -> bool:
    """Whether a cell without a letter is so small beside those with one that it lacks its own."""
    texts = [str(cell).strip() for cell in cells]
    lettered = [with_letter(text) for text in texts if _WITH_LETTER.fullmatch(text)]
    plain = [float(text) for text in texts if is_number(text) and float(text) > 0]
    return bool(lettered and plain) and min(plain) < min(1e3, min(lettered) / 1e3)


def with_letter(text: str) -> float:
    """Of 124M or 1.2B; NaN of any other text."""
    found = _WITH_LETTER.fullmatch(text)
    return float(found[1]) * _LETTERS[found[2].upper()] if found else math.nan


def _with_thousands(text: str) -> float:
    return float(text.replace(",", ""))


def _number(text: str) -> float:
    return float(text) if is_number(text) else math.nan


def with_decimal_points(
    columns: dict[str, Sequence[str]],
) -> tuple[dict[str, Sequence[str]], tuple[str, ...]]:
    """Columns with points for decimal commas, and in which that was done, in words.

    In a column all numbers are spelt so: each has one comma or none, and each has one or in some
    it can be no mark of thousands. `thousands_points` finds cells that are not to be read then.
    """
    found = {name: cells for name, cells in columns.items() if _has_decimal_commas(cells)}
    numerals = (cell.strip() for cells in found.values() for cell in cells if _is_numeral(cell))
    first = next((cell for cell in numerals if "," in cell), "")
    pointed = {
        name: [cell.replace(",", ".") if _is_numeral(cell) else cell for cell in cells]
        for name, cells in found.items()
    }
    note = (
        f"Commas are read as decimal points in {', '.join(found)}: {first} is "
        f"{first.replace(',', '.')}."
    )
    return columns | pointed, (note,) * bool(found)


def _has_decimal_commas(cells: Sequence[str]) -> bool:
    # What stands for a missing number has no digit; few other words are mistakes, named later.
    digits = [cell.strip() for cell in cells if any(sign.isdigit() for sign in cell)]
    with_digits = [cell for cell in digits if not _WITH_THOUSANDS_POINTS.fullmatch(cell)]
    numbers = [cell for cell in with_digits if _is_numeral(cell)]
    commas = [cell for cell in numbers if "," in cell]
    return (
        bool(commas)
        and 2 * len(numbers) > len(with_digits)
        and all(_WITH_DECIMAL_COMMA.fullmatch(cell) for cell in numbers)
        and (len(commas) == len(numbers) or any(_SURELY_DECIMAL.match(cell) for cell in commas))
    )


def thousands_points(columns: Mapping[str, Sequence[str]]) -> list[tuple[int, str, str]]:
    """Cells whose points may be marks of thousands: index of the row, column, and what to write
    for the cell."""
    return [
        (row, name, _without_thousands(found[1], found[2] or ""))
        for name, cells in columns.items()
        for row, cell in enumerate(cells)
        if (found := _WITH_THOUSANDS_POINTS.fullmatch(cell.strip()))
    ]


def _without_thousands(number: str, letter: str) -> str:
    plain = f"{number.replace('.', '')}{letter}"
    if "," in number or number.count(".") > 1:
        return plain
    # Four decimals: 1,026 might be thousands to a reader of English.
    return f"{plain} or {number.replace('.', ',')}0{letter}"


def _is_numeral(cell: str) -> bool:
    return _NUMERAL.fullmatch(cell.strip()) is not None
