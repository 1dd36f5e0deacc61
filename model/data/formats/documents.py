# SPDX-License-Identifier: Apache-2.0
"""From a file's pieces to its documents: NULs end them, and none is too long."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from model.data.formats.piece import Piece
from model.data.formats.pieces import pieces
from model.data.source import BYTE_SEPARATOR, TextFiles

_NUL = bytes([BYTE_SEPARATOR])


def documents(file: Path, source: TextFiles) -> Iterator[bytes]:
    """The documents of a file, some perhaps empty: its rows, or what NULs part a row into.

    Raises:
      ValueError: one line that names file and row, for what cannot be read as the source says, or
        for a document above `max_document_bytes`, unless the source says to cut it.
    """
    limit, text = source.max_document_bytes, bytearray()
    for part in _parts(pieces(file, source)):
        text += part.text
        while len(text) > limit:
            if not source.cut_long_documents:
                raise ValueError(
                    f"row {part.row} of data file {os.fspath(file)!r} is a document of more than "
                    f"{limit} bytes: raise max_document_bytes of the source, set "
                    "cut_long_documents=True, or name what ends documents (document_separator)."
                )
            end = _last_line_end(text, limit)
            yield bytes(text[:end])
            del text[:end]
        if part.is_last:
            yield bytes(text)
            text = bytearray()


def only_document_bytes(file: Path, source: TextFiles) -> int | None:
    """The length of a file's one document that is not empty; None where there are more, or none.

    Raises:
      ValueError: as `documents`, of what is read until that is known; no document is too long.
    """
    size, has_ended = 0, False
    for part in _parts(pieces(file, source)):
        if part.text and has_ended:
            return None
        size += len(part.text)
        has_ended = part.is_last and size > 0
    return size or None


def blocks(file: Path, source: TextFiles, n_bytes: int) -> Iterator[bytes]:
    """A file's only document, of so many bytes, in about two hundred blocks.

    Each has 512 bytes to 64 KiB, up to the end of a line or, where lines are longer than that, of
    a character.
    """
    size = min(max(n_bytes // 200, 512), 2**16)
    text = bytearray()
    for part in _parts(pieces(file, source)):
        text += part.text
        while len(text) > 2 * size + 4:  # A line may end so late; a character has four bytes.
            end = _next_line_end(text, size)
            yield bytes(text[:end])
            del text[:end]
    while text:
        end = _next_line_end(text, size)
        yield bytes(text[:end])
        del text[:end]


def _next_line_end(text: bytearray, size: int) -> int:
    """The end of the line that ends at `size` or within as much again; else of the character."""
    if line := text.find(b"\n", size, 2 * size) + 1:
        return line
    end = min(size, len(text))
    while end < len(text) and _is_inside(text, end):
        end += 1
    return end


def _last_line_end(text: bytearray, size: int) -> int:
    """The last end of a line in the first `size` bytes; else of a character."""
    if line := text.rfind(b"\n", 0, size) + 1:
        return line
    while _is_inside(text, size):
        size -= 1
    return size


def _is_inside(text: bytearray, place: int) -> bool:
    """Whether a character of UTF-8 goes on there."""
    return text[place] & 0xC0 == 0x80


def _parts(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The pieces, their last where a row ends or a NUL is: in bytes it ends a document, and is no
    text. One at the very end of a row begins no other."""
    is_behind = False
    for text, row, is_last in pieces:
        *ended, rest = text.split(_NUL)
        for part in ended:
            yield Piece(part, row)
        is_behind = not rest and (is_behind or bool(ended))
        if rest or (is_last and not is_behind):
            yield Piece(rest, row, is_last)
        is_behind = is_behind and not is_last
