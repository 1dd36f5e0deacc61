# SPDX-License-Identifier: Apache-2.0
"""Text or token ids of files that belong to no study, read as a source reads its own."""

from dataclasses import replace

import numpy as np
from jaxtyping import UInt

from model.data.prepare import reader_of
from model.data.source import (
    HuggingFaceDataset,
    Language,
    Mixture,
    PepsText,
    Source,
    StdlibText,
    TextFiles,
    TokenArrays,
)
from model.data.tokens.token_arrays import TokenArraysReader


def read_texts(source: Source, path: str, text_field: str | None = None) -> list[bytes] | None:
    """All documents of a file or folder, as UTF-8, without those that are empty; None where the
    source is one of token ids.

    Args:
      text_field: instead of the source's own.

    Raises:
      ValueError: if a file cannot be read as the source says.
    """
    found = _of_path(source, path)
    if not isinstance(found, TextFiles):
        return None
    reader = reader_of(replace(found, text_field=text_field or found.text_field))
    return [text for file in reader.files for text in reader.documents(file) if text]


def read_ids(source: Source, path: str) -> UInt[np.ndarray, " n"]:
    """All token ids of a file or folder, as they are, for a source of these.

    Raises:
      ValueError: if a file cannot be read as the source says, or holds a token that the
        vocabulary lacks.
    """
    reader = reader_of(_of_path(source, path))
    assert isinstance(reader, TokenArraysReader)
    stretches = (stretch for file in reader.files for stretch, _ in reader.as_they_are(file))
    return np.frombuffer(b"".join(stretches), reader.token_dtype)


def _of_path(source: Source, path: str) -> TextFiles | TokenArrays:
    if isinstance(source, Mixture):
        source = source.parts[0].source  # Of the others the encoding is the same.
    if isinstance(source, PepsText | StdlibText):
        return TextFiles(paths=(path,), validation_fraction=0.5)  # Of what is not split.
    if isinstance(source, HuggingFaceDataset):
        return TextFiles(paths=(path,), validation_fraction=0.5, text_field=source.text_field)
    if isinstance(source, Language):
        return TokenArrays(
            paths=(path,),
            vocab_size=source.vocab_size,
            separator=source.separator,
            validation_fraction=0.5,
            bytes_per_token=None,
        )
    assert isinstance(source, TextFiles | TokenArrays), "images are no tokens of a file"
    return replace(source, paths=(path,), validation_fraction=0.5, validation_paths=None)
