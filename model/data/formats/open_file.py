# SPDX-License-Identifier: Apache-2.0
"""Files as bytes, whatever compressed them, and as text, whatever encoded it."""

import bz2
import codecs
import contextlib
import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BLOCK_BYTES = 2**20


def _open_zstd(file: Path, mode: str) -> Any:
    import pyarrow as pa  # Late: most text needs no zstd.

    return pa.CompressedInputStream(pa.OSFile(os.fspath(file), mode), "zstd")


_OPENERS: dict[str, Callable[..., Any]] = {
    ".bz2": bz2.open,
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".zst": _open_zstd,
}
COMPRESSED = tuple(_OPENERS)


def ending(file: Path) -> str:
    """The ending that tells a file's format, in lower case; not that of its compression."""
    name = file.with_suffix("") if file.suffix.lower() in COMPRESSED else file
    return name.suffix.lower()


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raises ValueError, naming the file, for what the system or a decompressor refuses."""
    try:
        yield
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise ValueError(
            f"data file {os.fspath(path)!r} cannot be read: {reason}. "
            "Correct the paths of the data source, or the file."
        ) from error


def open_file(file: Path) -> Any:
    """The file to be read as bytes, decompressed by its ending; a context manager."""
    return _OPENERS.get(file.suffix.lower(), open)(file, "rb")


def decoded(file: Path, encoding: str) -> Iterator[str]:
    """The file's text in blocks, without byte order mark.

    Raises:
      ValueError: if the file cannot be read, or is not encoded so; names the byte.
    """
    # Python's "utf-8" would keep the mark; of the other encodings that have one, it is dropped.
    codec = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    decoder = codecs.getincrementaldecoder(codec)()
    n_read = 0
    with reading(file), open_file(file) as stream:
        while True:
            block = stream.read(BLOCK_BYTES)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeError as error:
                reason = str(error)
                if isinstance(error, UnicodeDecodeError):
                    # What it could not decode at the end of the last block the decoder has kept.
                    reason = f"byte {n_read + len(block) - len(error.object) + error.start}"
                raise ValueError(
                    f"data file {os.fspath(file)!r} is not {encoding.upper()} ({reason}): name its "
                    "encoding in the source (encoding=), convert it, or leave it out of the paths."
                ) from error
            if text:
                yield text
            if not block:
                return
            n_read += len(block)
