# SPDX-License-Identifier: Apache-2.0
"""What readers of files give: their text in pieces."""

from typing import NamedTuple


class Piece(NamedTuple):
    """A part of a file's text, as UTF-8.

    Attributes:
      text: a whole row, or some of it where rows are long.
      row: which row of the file, from 1; what a row is, the format says.
      is_last: whether the row ends behind it.
    """

    text: bytes
    row: int
    is_last: bool = True
