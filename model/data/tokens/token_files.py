# SPDX-License-Identifier: Apache-2.0
"""Token files: .npy arrays on disk, memory-mapped when read, and their fingerprint."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Shaped

SPLITS = ("train", "validation")


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest little-endian unsigned type that holds [0, vocab_size)."""
    for name, limit in (("<u1", 2**8), ("<u2", 2**16), ("<u4", 2**32)):
        if vocab_size <= limit:
            return np.dtype(name)
    raise ValueError(f"vocab_size {vocab_size} is too large: at most 2^32.")


def token_path(folder: Path, split: str) -> Path:
    return folder / f"{split}.npy"


def tokens_folder(folder: Path, fingerprint: str) -> Path:
    """Where the token files of data lie: in a folder below that their fingerprint names, as those
    of several data do, or in the folder itself."""
    below = folder / fingerprint[:16]
    return below if below.is_dir() else folder


class TokenWriter:
    """Appends documents to a .npy file whose length is known only at the end.

    Args:
      kept: what `sync` said of the tokens that are in the file and stay.

    Raises:
      EOFError: if they are not.
    """

    def __init__(self, path: Path, dtype: np.dtype, kept: Sequence[Any] | None = None):
        self._dtype = dtype
        self._sha256 = hashlib.sha256()
        self._file: BinaryIO = open(path, "r+b" if kept else "w+b")  # noqa: SIM115 (see `close`)
        self._n_bytes = 0
        self._write_header()
        n_kept, sha256 = kept or (0, self.sha256)
        while block := self._file.read(min(n_kept - self._n_bytes, 2**20)):
            self._sha256.update(block)
            self._n_bytes += len(block)
        self._file.truncate()
        if self.sha256 != sha256:
            self.close()
            raise EOFError(f"{path} is not what was kept")

    def append(self, tokens: bytes) -> None:
        """Appends tokens, given as little-endian bytes of the file's type."""
        self._file.write(tokens)
        self._sha256.update(tokens)
        self._n_bytes += len(tokens)

    def sync(self) -> tuple[int, str]:
        """How many bytes of tokens are on the disk now, for certain, and their sha256."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._n_bytes, self.sha256

    def finish(self) -> None:
        """Writes the true length into the header and closes the file."""
        self._file.seek(0)
        self._write_header()  # numpy pads the header so that a longer length still fits
        self.close()

    def close(self) -> None:
        self._file.close()

    @property
    def n_tokens(self) -> int:
        return self._n_bytes // self._dtype.itemsize

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def _write_header(self) -> None:
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.n_tokens,)}
        np.lib.format.write_array_header_1_0(self._file, header)


def fingerprint(
    *, vocab_size: int, separator: int, order: str, sha256_by_split: Mapping[str, str]
) -> str:
    """sha256 over vocabulary size, separator and the sha256 of each split's tokens; and over the
    order of the windows, if it is none of ours."""
    rule = {"vocab_size": vocab_size, "separator": separator, **sha256_by_split}
    if order != "shuffled":
        rule["order"] = order
    return hashlib.sha256(json.dumps(rule, sort_keys=True).encode()).hexdigest()


def sha256_of(tokens: Shaped[np.ndarray, "..."]) -> str:
    """sha256 of the tokens as they lie in memory; contiguous."""
    return hashlib.sha256(tokens.view(np.uint8).data).hexdigest()


def open_array(path: str | os.PathLike[str]) -> Shaped[np.ndarray, "..."]:
    """The array of a .npy file, memory-mapped, read-only.

    Raises:
      ValueError: if the file cannot be read, is no .npy file, or holds Python objects (pickled).
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, TokenError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise ValueError(
            f"token file {os.fspath(path)!r} cannot be read: {reason.rstrip('.')}. "
            "It must be an uncompressed .npy file of integers."
        ) from error
    return np.asarray(array)  # a plain view: np.memmap adds microseconds to each indexing
