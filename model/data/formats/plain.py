# SPDX-License-Identifier: Apache-2.0
"""Plain text. A row is a document."""

import os
from collections.abc import Iterator
from pathlib import Path

from model.data.formats.open_file import decoded
from model.data.formats.piece import Piece
from model.data.source import BYTE_SEPARATOR, TextFiles

NUL = chr(BYTE_SEPARATOR)
# What ends documents in files that others wrote; nobody wants it trained on as text unawares.
_MARKS = ("<|endoftext|>", "<|end_of_text|>")


def plain_text(file: Path, source: TextFiles) -> Iterator[Piece]:
    """The documents of a file: what lies between two NULs, or two of `document_separator`.

    Around a separator that was named, and at the ends of the file, line ends are dropped.

    Raises:
      ValueError: if the file cannot be read or decoded, or if no separator was named, and the file
        holds one that is in use elsewhere.
    """
    separator = source.document_separator
    blocks = decoded(file, source.encoding)
    if separator is None:
        blocks = _without_marks(file, blocks)
    around = b"" if separator in (None, NUL) else b"\r\n"
    encoded = (block.encode() for block in blocks)
    yield from _separated(encoded, (separator or NUL).encode(), around)


def _without_marks(file: Path, blocks: Iterator[str]) -> Iterator[str]:
    for block in blocks:
        for mark in _MARKS:
            if mark in block:
                raise ValueError(
                    f"data file {os.fspath(file)!r} holds {mark!r}, which nothing says to end "
                    f"documents: set document_separator of the source to {mark!r}, or to '\\0' if "
                    "it is text."
                )
        yield block


def _separated(blocks: Iterator[bytes], separator: bytes, around: bytes) -> Iterator[Piece]:
    """Rows between separators, without the bytes of `around` at their ends."""
    rest, row, is_begun = b"", 1, False
    for block in blocks:
        *whole, rest = (rest + block).split(separator)
        for text in whole:
            text = text.rstrip(around)
            yield Piece(text if is_begun else text.lstrip(around), row)
            row, is_begun = row + 1, False
        if not is_begun:
            rest = rest.lstrip(around)
        # What follows may complete a separator, or be one that line ends stand before.
        sure = rest[: max(len(rest) - len(separator) + 1, 0)].rstrip(around)
        if sure:
            yield Piece(sure, row, is_last=False)
            rest, is_begun = rest[len(sure) :], True
    rest = rest.rstrip(around)
    if rest or is_begun:
        yield Piece(rest, row)
