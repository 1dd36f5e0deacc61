# SPDX-License-Identifier: Apache-2.0
"""Tokens made elsewhere, as documents where some are to be held out, else as they are."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from model.data.formats.token_file import open_tokens
from model.data.list_files import list_splits
from model.data.source import TokenArrays
from model.data.text import Reader, stamp
from model.data.tokens.token_files import token_dtype

_BLOCK_TOKENS = 2**22


class TokenArraysReader(Reader):
    """Token files, read block by block, every token checked to lie in the vocabulary."""

    def __init__(self, source: TokenArrays):
        self._source = source
        self.token_dtype = token_dtype(source.vocab_size)
        self._n_unended = 0
        self._left_out: Counter[str] = Counter()
        self.files, self.validation_files = map(
            _without_indices, list_splits(source, self._left_out)
        )

    def documents(self, file: Path) -> Iterator[bytes]:
        tokens, ends = open_tokens(file, self._source.dtype)
        if ends is not None:
            for _ in self._blocks(file, tokens):
                pass  # All tokens are checked before the first document.
            yield from self._of_index(tokens, ends)
            return
        start, n_separators = 0, 0
        for offset, block in self._blocks(file, tokens):
            found = offset + np.flatnonzero(block == self._source.separator)
            n_separators += len(found)
            for end in found.tolist():
                yield tokens[start:end].astype(self.token_dtype).tobytes()
                start = end + 1
        if not n_separators:
            raise ValueError(
                f"token file {os.fspath(file)!r} never holds separator {self._source.separator} "
                f"in its {len(tokens)} tokens: it must end each document. Correct `separator`, or "
                "give validation_paths: then nothing has to be split."
            )
        if start < len(tokens):
            self._n_unended += 1
            yield tokens[start:].astype(self.token_dtype).tobytes()

    def as_they_are(self, file: Path) -> Iterator[tuple[bytes, int]]:
        """The file's tokens in stretches, and how many documents end in each."""
        tokens, ends = open_tokens(file, self._source.dtype)
        separator = self._source.separator
        for offset, block in self._blocks(file, tokens):
            is_end = block == separator
            n_ends = int(is_end.sum())
            if ends is not None:
                n_ends = int(((ends > offset) & (ends <= offset + len(block))).sum())
            elif offset + len(block) == len(tokens):
                n_ends += not is_end[-1]
            yield block.astype(self.token_dtype).tobytes(), n_ends

    def stamps(self) -> list[object]:
        indices = [file.with_suffix(".idx") for file in (*self.validation_files, *self.files)]
        return [*super().stamps(), *(stamp(index) for index in indices if index.exists())]

    def notes(self) -> list[str]:
        notes = [f"Tokens of {len(self.files) + len(self.validation_files)} files."]
        notes += [f"Left out: {n} {why}." for why, n in sorted(self._left_out.items()) if n]
        if self._n_unended:
            notes.append(
                f"{self._n_unended} files did not end with the separator; it was added there."
            )
        return notes

    def _of_index(self, tokens: np.ndarray, ends: np.ndarray) -> Iterator[bytes]:
        start = 0
        for end in ends.tolist():
            document = tokens[start:end]
            # The end of a document is written behind it in any case, and once.
            if len(document) and document[-1] == self._source.separator:
                document = document[:-1]
            yield document.astype(self.token_dtype).tobytes()
            start = end

    def _blocks(
        self, file: Path, tokens: Integer[np.ndarray, " n"]
    ) -> Iterator[tuple[int, Integer[np.ndarray, " m"]]]:
        """Parts of the tokens and where they begin, once their tokens were checked."""
        low, high = 0, self._source.vocab_size
        for offset in range(0, len(tokens), _BLOCK_TOKENS):
            block = tokens[offset : offset + _BLOCK_TOKENS]
            if int(block.min()) < low or int(block.max()) >= high:
                at = int(np.argmax((block < low) | (block >= high)))
                raise ValueError(
                    f"token file {os.fspath(file)!r} holds token {int(block[at])} at position "
                    f"{offset + at}: tokens must lie in [0, {high}). Correct the file, or "
                    "`vocab_size` of the source."
                )
            yield offset, block


def _without_indices(files: list[Path]) -> list[Path]:
    """A .idx is read with the .bin that it is beside."""
    return [f for f in files if f.suffix != ".idx" or not f.with_suffix(".bin").exists()]
