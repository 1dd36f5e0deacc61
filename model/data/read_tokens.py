# SPDX-License-Identifier: Apache-2.0
"""The tokens of files that belong to no study, read as a source reads its own."""

from dataclasses import replace

import numpy as np
from jaxtyping import UInt

from model.data.encoding import Encoding
from model.data.prepare import reader_of
from model.data.source import (
    HuggingFaceDataset,
    Mixture,
    PepsText,
    Source,
    StdlibText,
    TextFiles,
    TokenArrays,
    Zipf,
)
from model.data.token_arrays import TokenArraysReader
from model.data.token_files import token_dtype


def read_tokens(source: Source, path: str, encoding: Encoding) -> UInt[np.ndarray, " n"]:
    """All documents of a file or folder.

    Text for a source of text, each document ended by the separator; for one of tokens or of a
    language token ids, as they are.

    Args:
      encoding: that of the source (`open_encoding`).

    Raises:
      ValueError: if a file cannot be read as the source says, or holds a token that the
        vocabulary lacks.
    """
    reader = reader_of(_of_path(source, path))
    if isinstance(reader, TokenArraysReader):
        stretches = (stretch for file in reader.files for stretch, _ in reader.as_they_are(file))
        return np.frombuffer(b"".join(stretches), reader.token_dtype)
    dtype = token_dtype(encoding.vocab_size)
    end = encoding.separator.to_bytes(dtype.itemsize, "little")
    found = encoding.encode(read_texts(source, path))
    return np.frombuffer(b"".join(one + end for one in found), dtype)


def read_texts(source: Source, path: str) -> list[bytes]:
    """All documents of a file or folder of text, without those that are empty; raises ValueError if
    one cannot be read as the source says."""
    reader = reader_of(_of_path(source, path))
    return [text for file in reader.files for text in reader.documents(file) if text]


def _of_path(source: Source, path: str) -> TextFiles | TokenArrays:
    if isinstance(source, Mixture):
        source = source.parts[0].source  # Of the others the encoding is the same.
    if isinstance(source, PepsText | StdlibText):
        return TextFiles(paths=(path,), validation_fraction=0.5)  # Of what is not split.
    if isinstance(source, HuggingFaceDataset):
        return TextFiles(paths=(path,), validation_fraction=0.5, text_field=source.text_field)
    if isinstance(source, Zipf):
        return TokenArrays(
            paths=(path,),
            vocab_size=source.vocab_size,
            separator=source.separator,
            validation_fraction=0.5,
            bytes_per_token=None,
        )
    return replace(source, paths=(path,), validation_fraction=0.5, validation_paths=None)
