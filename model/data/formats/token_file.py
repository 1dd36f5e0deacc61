# SPDX-License-Identifier: Apache-2.0
"""Tokens as others store them: .npy, and the .bin of nanoGPT, llm.c and Megatron."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, Integer, Shaped

from model.data.formats.open_file import reading
from model.data.tokens.token_files import open_array

# llm.c, dev/data/data_common.py: 256 int32 (magic, version, number of tokens), then the tokens.
_LLMC_HEADER_BYTES = 1024
_LLMC_TYPES = {(20240520, 1): "<u2", (20240801, 7): "<u4"}
_LLMC_EVALUATION = 20240522
# Megatron-LM, megatron/core/datasets/indexed_dataset.py: magic, version, type of the tokens,
# sequences, documents + 1; then each sequence's length (int32) and place in bytes (int64), and the
# number of the sequence that each document begins with (int64), a last one where all end.
_MEGATRON_HEADER = np.dtype(
    [("magic", "S9"), ("version", "<u8"), ("type", "u1"), ("sequences", "<u8"), ("ends", "<u8")]
)
_MEGATRON_MAGIC = b"MMIDIDX"
_MEGATRON_TYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}


class TokenFile(NamedTuple):
    """A file's tokens, memory-mapped.

    Attributes:
      tokens: the ids, in the file's type.
      ends: where each document ends, the first being tokens[: ends[0]]; None where the format does
        not say.
    """

    tokens: Integer[np.ndarray, " n"]
    ends: Int64[np.ndarray, " m"] | None


def open_tokens(file: Path, dtype: str | None) -> TokenFile:
    """The tokens of a .npy array; of a .bin by the .idx beside it (Megatron), by its header (llm.c)
    or, where there is neither (nanoGPT), by ``dtype``.

    Raises:
      ValueError: if the file cannot be read, is none of these, or does not agree with itself.
    """
    match file.suffix.lower():
        case ".npy":
            return TokenFile(_checked_array(file), None)
        case ".bin":
            with reading(file):
                index = file.with_suffix(".idx")
                return _megatron(file, index) if index.exists() else _plain(file, dtype)
    raise ValueError(
        f"token file {os.fspath(file)!r} has the ending {file.suffix!r}: .npy and .bin are read. "
        "Save the tokens with numpy.save, or name the files instead of the folder."
    )


def _checked_array(file: Path) -> Integer[np.ndarray, " n"]:
    array = open_array(file)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(
            f"token file {os.fspath(file)!r} holds {array.dtype} of shape {array.shape}: "
            "it must be a 1-D array of integers."
        )
    return array


def _plain(file: Path, dtype: str | None) -> TokenFile:
    n_bytes = file.stat().st_size
    header = np.fromfile(file, "<i4", 3) if n_bytes >= _LLMC_HEADER_BYTES else np.zeros(3, int)
    magic, version, n_tokens = header.tolist()
    if magic == _LLMC_EVALUATION:
        raise _refused(file, "is llm.c's evaluation data (HellaSwag, MMLU), no text. Leave it out.")
    if (magic, version) in _LLMC_TYPES:
        tokens = _mapped(file, _LLMC_TYPES[magic, version], _LLMC_HEADER_BYTES)
        if len(tokens) != n_tokens:
            raise _refused(
                file, f"says in its header that it holds {n_tokens} tokens: it holds {len(tokens)}."
            )
        return TokenFile(tokens, None)
    if dtype is None:
        raise _refused(
            file,
            "has no header that tells the type of its tokens, and no .idx is beside it: set dtype "
            'of the source ("uint16" as nanoGPT writes).',
        )
    return TokenFile(_mapped(file, np.dtype(dtype).newbyteorder("<").str, 0), None)


def _megatron(file: Path, index: Path) -> TokenFile:
    header = np.fromfile(index, _MEGATRON_HEADER, 1)
    if not len(header) or header["magic"][0] != _MEGATRON_MAGIC or header["version"][0] != 1:
        raise _refused(index, "is no index of Megatron, version 1.")
    _, _, code, n_sequences, n_ends = header[0].tolist()
    if code not in _MEGATRON_TYPES:
        raise _refused(index, f"has tokens of type {code}, which is no type of integers.")
    rest = np.fromfile(index, "u1", offset=_MEGATRON_HEADER.itemsize)
    n_bytes = 12 * n_sequences + 8 * n_ends
    if len(rest) not in (n_bytes, n_bytes + n_sequences):  # A byte of mode each, of images.
        raise _refused(
            index, f"has {len(rest)} bytes for {n_sequences} sequences, which need {n_bytes}."
        )
    parts = np.split(rest, (4 * n_sequences, 12 * n_sequences, n_bytes))
    lengths, places, begins = (
        part.view(kind) for part, kind in zip(parts[:3], ("<i4", "<i8", "<i8"), strict=True)
    )
    tokens = _mapped(file, _MEGATRON_TYPES[code], 0)
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    if (
        len(begins) == 0
        or (lengths < 0).any()
        or ends[-1] != len(tokens)
        or (places != ends[:-1] * tokens.itemsize).any()
        or (begins[0], begins[-1]) != (0, n_sequences)
        or (np.diff(begins) < 0).any()
    ):
        raise _refused(
            index,
            f"does not agree with {file.name}: its {n_sequences} sequences are {ends[-1]} tokens, "
            f"the file holds {len(tokens)}. Give both as they were written together.",
        )
    return TokenFile(tokens, ends[begins[1:]])


def _mapped(file: Path, dtype: str, offset: int) -> Shaped[np.ndarray, " n"]:
    size = np.dtype(dtype).itemsize
    n_bytes = file.stat().st_size - offset
    if n_bytes == 0 or n_bytes % size:
        raise _refused(
            file,
            f"holds {n_bytes} bytes, which are no tokens of {size} bytes: it was cut short, "
            "or has another type (dtype).",
        )
    return np.asarray(np.memmap(file, dtype, mode="r", offset=offset))


def _refused(file: Path, reason: str) -> ValueError:
    return ValueError(f"token file {os.fspath(file)!r} {reason}")
