# SPDX-License-Identifier: Apache-2.0
"""Comma- and tab-separated values with a line of names. A row is the cell of a column."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from model.data.formats.lines import lines, longest_row
from model.data.formats.open_file import decoded, ending
from model.data.formats.piece import Piece
from model.data.source import TextFiles


def csv_rows(file: Path, source: TextFiles) -> Iterator[Piece]:
    """The cells of the column that `text_field` names; numbered by the last line of their row.

    Raises:
      ValueError: if the file cannot be read, has no such column, or a row lacks cells or quotes.
    """
    csv.field_size_limit(longest_row(source))  # 128 KiB otherwise, in all of the process.
    delimiter = "\t" if ending(file) == ".tsv" else ","
    texts = lines(file, source, decoded(file, source.encoding))
    rows = csv.reader(texts, delimiter=delimiter, strict=True)
    name = os.fspath(file)
    try:
        header = next(rows, [])
        if header.count(source.text_field) != 1:
            raise ValueError(
                f"data file {name!r} has {header.count(source.text_field)} columns "
                f"{source.text_field!r} (found {header}): set text_field of the source."
            )
        column = header.index(source.text_field)
        for row in rows:
            if row and len(row) != len(header):
                raise ValueError(
                    f"line {rows.line_num} of data file {name!r} has {len(row)} cells, the first "
                    f"line has {len(header)}. Correct the file."
                )
            if row:
                yield Piece(row[column].encode(), rows.line_num)
    except csv.Error as error:
        raise ValueError(
            f"line {rows.line_num} of data file {name!r} cannot be read: {error}. Correct the file."
        ) from error
