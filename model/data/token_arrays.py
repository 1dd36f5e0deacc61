# SPDX-License-Identifier: Apache-2.0
"""Documents of tokens made elsewhere: 1-D integer .npy arrays, ended by a separator token."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from model.data.list_files import list_splits
from model.data.source import TokenArrays
from model.data.text import Reader
from model.data.token_files import open_array, token_dtype

_BLOCK_TOKENS = 2**22


class TokenArraysReader(Reader):
    """Token arrays, read block by block, every token checked to lie in the vocabulary."""

    def __init__(self, source: TokenArrays):
        self._source = source
        self._dtype = token_dtype(source.vocab_size)
        self._n_unended = 0
        self._left_out: Counter[str] = Counter()
        self.files, self.validation_files = list_splits(source, self._left_out)

    def documents(self, file: Path) -> Iterator[bytes]:
        array = self._open(file)
        start = 0
        n_separators = 0
        for offset in range(0, len(array), _BLOCK_TOKENS):
            block = array[offset : offset + _BLOCK_TOKENS]
            self._check_range(file, offset, block)
            ends = offset + np.flatnonzero(block == self._source.separator)
            n_separators += len(ends)
            for end in ends.tolist():
                yield array[start:end].astype(self._dtype).tobytes()
                start = end + 1
        if not n_separators:
            raise ValueError(
                f"token file {os.fspath(file)!r} never holds separator {self._source.separator} "
                f"in its {len(array)} tokens: it must end each document. Correct `separator`."
            )
        if start < len(array):
            self._n_unended += 1
            yield array[start:].astype(self._dtype).tobytes()

    def notes(self) -> list[str]:
        notes = [f"Tokens of {len(self.files) + len(self.validation_files)} arrays."]
        notes += [f"Left out: {n} {why}." for why, n in sorted(self._left_out.items()) if n]
        if self._n_unended:
            notes.append(
                f"{self._n_unended} arrays did not end with the separator; it was added there."
            )
        return notes

    def _open(self, file: Path) -> np.ndarray:
        if file.suffix.lower() != ".npy":
            raise ValueError(
                f"token file {os.fspath(file)!r} has the extension {file.suffix!r}: only .npy is "
                "read. Save the tokens with numpy.save, or name the files instead of the folder."
            )
        array = open_array(file)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(
                f"token file {os.fspath(file)!r} holds {array.dtype} of shape {array.shape}: "
                "it must be a 1-D array of integers."
            )
        return array

    def _check_range(self, file: Path, offset: int, block: np.ndarray) -> None:
        vocab_size = self._source.vocab_size
        if int(block.min()) < 0 or int(block.max()) >= vocab_size:
            at = int(np.argmax((block < 0) | (block >= vocab_size)))
            raise ValueError(
                f"token file {os.fspath(file)!r} holds token {int(block[at])} at position "
                f"{offset + at}: tokens must lie in [0, {vocab_size}). Correct the "
                "file, or `vocab_size` of the source."
            )
