# SPDX-License-Identifier: Apache-2.0
"""The tokens of files that belong to no study, read as a source reads its own."""

from dataclasses import replace

import numpy as np
from jaxtyping import UInt

from model.data.prepare import reader_of
from model.data.source import PepsText, Source, StdlibText, TextFiles, TokenArrays, Zipf
from model.data.token_files import token_dtype


def read_tokens(source: Source, path: str) -> UInt[np.ndarray, " n"]:
    """All documents of a file or folder, each ended by the source's separator.

    Text for a source of text; .npy arrays of token ids for one of tokens or of a language.

    Raises:
      ValueError: if a file cannot be read as the source says, or holds a token that the
        vocabulary lacks.
    """
    dtype = token_dtype(source.vocab_size)
    end = source.separator.to_bytes(dtype.itemsize, "little")
    reader = reader_of(_of_path(source, path))
    documents = (document for file in reader.files for document in reader.documents(file))
    return np.frombuffer(b"".join(one + end for one in documents if one), dtype)


def _of_path(source: Source, path: str) -> TextFiles | TokenArrays:
    if isinstance(source, PepsText | StdlibText):
        return TextFiles(paths=(path,), validation_fraction=0.5)  # Of what is not split.
    if isinstance(source, Zipf):
        return TokenArrays(
            paths=(path,),
            vocab_size=source.vocab_size,
            separator=source.separator,
            validation_fraction=0.5,
            bytes_per_token=None,
        )
    return replace(source, paths=(path,), validation_fraction=0.5, validation_paths=None)
