# SPDX-License-Identifier: Apache-2.0
"""Lines of a text that comes in blocks, none so long that it could fill the memory."""

import os
from collections.abc import Iterator
from pathlib import Path

from model.data.source import TextFiles

MAX_ROW_CHARACTERS = 2**29


def longest_row(source: TextFiles) -> int:
    """Characters that a row may have: room for a document, of which JSON may write each byte in
    six, and for other fields."""
    return max(8 * source.max_document_bytes, MAX_ROW_CHARACTERS)


def lines(file: Path, source: TextFiles, blocks: Iterator[str]) -> Iterator[str]:
    """Each with its end.

    Raises:
      ValueError: for a line of more than `longest_row` characters.
    """
    number, parts, size = 1, [], 0
    for block in blocks:
        first, *others = block.split("\n")
        parts.append(first)
        size += len(first)
        if size > longest_row(source):
            raise ValueError(
                f"line {number} of data file {os.fspath(file)!r} has more than "
                f"{longest_row(source)} characters: raise max_document_bytes to an eighth of what "
                "is needed, or correct the file."
            )
        for part in others:
            yield "".join(parts) + "\n"
            number, parts, size = number + 1, [part], len(part)
    if rest := "".join(parts):
        yield rest
