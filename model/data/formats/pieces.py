# SPDX-License-Identifier: Apache-2.0
"""A file's text, whatever its format: the table of formats and of the endings that tell them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from model.data.formats.arrow_rows import arrow_rows, parquet_rows
from model.data.formats.csv_rows import csv_rows
from model.data.formats.json_objects import json_file, json_lines
from model.data.formats.open_file import COMPRESSED, ending
from model.data.formats.piece import Piece
from model.data.formats.plain import plain_text
from model.data.source import TextFiles

READERS: dict[str, Callable[[Path, TextFiles], Iterator[Piece]]] = {
    "text": plain_text,
    "jsonl": json_lines,
    "json": json_file,
    "csv": csv_rows,
    "parquet": parquet_rows,
    "arrow": arrow_rows,
}
"""By format (TEXT_FORMATS of text_sources.py) what reads a file of it."""

_ENDINGS = {
    "text": ".txt .text .md .markdown .rst .org .tex .py .c .h .cc .cpp .hpp .cu .go .java .jl .js "
    ".lua .rs .sh .ts",
    "jsonl": ".jsonl .ndjson",
    "json": ".json",
    "csv": ".csv .tsv",
    "parquet": ".parquet",
    "arrow": ".arrow",
}
FORMATS = {each: format for format, endings in _ENDINGS.items() for each in endings.split()}


def format_of(file: Path, source: TextFiles) -> str:
    """The format that the source says or, where it says none, the file's ending.

    Raises:
      ValueError: for an ending that is none of those known: it is not taken for plain text.
    """
    if source.format is not None:
        return source.format
    if (found := ending(file)) in FORMATS:
        return FORMATS[found]
    has = f"has the ending {found!r}" if found else "has no ending"
    raise ValueError(
        f"data file {os.fspath(file)!r} {has}, which tells no format: known are "
        f"{' '.join(FORMATS)}, also with {' '.join(COMPRESSED)}. Leave it out of the paths, or set "
        f"format of the source ({', '.join(READERS)})."
    )


def pieces(file: Path, source: TextFiles) -> Iterator[Piece]:
    """The file's text, in the order of its rows; nothing of an empty file.

    Raises:
      ValueError: one line that names the file, and the row where there are, for what cannot be
        read as the source says.
    """
    return READERS[format_of(file, source)](file, source)
