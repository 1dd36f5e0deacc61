# SPDX-License-Identifier: Apache-2.0
"""JSON: an object in each line, or one array of objects. A row is an object's text."""

import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.data.formats.lines import lines, longest_row
from model.data.formats.open_file import decoded
from model.data.formats.piece import Piece
from model.data.source import TextFiles

_VALUE = re.compile(r"[^\s,]")
# No token of JSON but a string is longer: an error so far from the end is not for want of more.
_LONGEST_TOKEN = 32


def json_lines(file: Path, source: TextFiles) -> Iterator[Piece]:
    """The text of the object in each line that is not blank.

    Raises:
      ValueError: if the file cannot be read, or a line is no object with a text in the field.
    """
    yield from _of_lines(file, source, decoded(file, source.encoding))


def json_file(file: Path, source: TextFiles) -> Iterator[Piece]:
    """The text of each object: of an array where the file begins with one, else of each line.

    Raises:
      ValueError: as `json_lines`.
    """
    blocks = decoded(file, source.encoding)
    begin = next((block for block in blocks if not block.isspace()), "")
    if not begin.lstrip().startswith("["):
        yield from _of_lines(file, source, itertools.chain([begin], blocks))
        return
    elements = _elements(file, source, begin.lstrip()[1:], blocks)
    for number, values in enumerate(elements, 1):
        yield _piece(values, number, _where("element", number, file), source)


def _of_lines(file: Path, source: TextFiles, blocks: Iterator[str]) -> Iterator[Piece]:
    for number, line in enumerate(lines(file, source, blocks), 1):
        if not line.isspace():
            where = _where("line", number, file)
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise _no_json(where, error) from error
            yield _piece(values, number, where, source)


def _elements(file: Path, source: TextFiles, text: str, blocks: Iterator[str]) -> Iterator[Any]:
    """Of an array whose first block begins behind its bracket, one by one; no more is held of the
    file than one or two need."""
    decode = json.JSONDecoder().raw_decode
    at, number = 0, 1
    while True:
        begin = _VALUE.search(text, at)
        at = begin.start() if begin else len(text)
        if text[at : at + 1] == "]":
            break
        try:
            value, at = decode(text, at)
        except (ValueError, RecursionError) as error:
            held = len(text) - at
            more = "" if _is_final(error, text) else next(blocks, "")
            if not more or held > longest_row(source):
                raise _no_json(_where("element", number, file), error) from error
            # As much again: else an element of many blocks would be parsed once for each.
            while len(more) < held and (block := next(blocks, "")):
                more += block
            text, at = text[at:] + more, 0
            continue
        yield value
        number += 1
    if any(block.strip() for block in itertools.chain([text[at + 1 :]], blocks)):
        raise ValueError(
            f"data file {os.fspath(file)!r} goes on behind its array of {number - 1} elements: "
            "correct it."
        )


def _is_final(error: Exception, text: str) -> bool:
    """Whether an error is there for good, whatever follows the text."""
    if not isinstance(error, json.JSONDecodeError):
        return True
    is_cut = error.pos > len(text) - _LONGEST_TOKEN or error.msg.startswith("Unterminated string")
    return not is_cut


def _piece(values: object, number: int, where: str, source: TextFiles) -> Piece:
    text = _field(values, source.text_field)
    if not isinstance(text, str):
        found = sorted(values) if isinstance(values, dict) else type(values).__name__
        raise ValueError(
            f"{where} has no text in field {source.text_field!r} (found {found}): "
            "set text_field of the source, or correct the file."
        )
    try:
        return Piece(text.encode(), number)
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} holds half a surrogate pair. Correct the file.") from error


def _field(values: Any, name: str) -> object:
    """The field of that name; where there is none, meta.text is that in `meta`."""
    if isinstance(values, dict) and name not in values and "." in name:
        outer, inner = name.split(".", 1)
        return _field(values.get(outer), inner)
    return values.get(name) if isinstance(values, dict) else None


def _where(row: str, number: int, file: Path) -> str:
    return f"{row} {number} of data file {os.fspath(file)!r}"


def _no_json(where: str, error: Exception) -> ValueError:
    return ValueError(f"{where} is no JSON: {error}. Correct or drop it.")
