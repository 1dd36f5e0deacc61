# SPDX-License-Identifier: Apache-2.0
"""From a source to token files and their manifest: read, split by document hash, write once."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from model.data import zipf
from model.data.encoding import (
    TOKENIZER_FILE,
    Encoding,
    FileEncoding,
    encoding_of,
)
from model.data.manifest import Manifest
from model.data.source import (
    FileSource,
    PepsText,
    SingleSource,
    StdlibText,
    TokenArrays,
    Zipf,
)
from model.data.splits import Splits, is_validation
from model.data.text import PepsReader, Reader, StdlibReader, TextFilesReader
from model.data.token_arrays import TokenArraysReader

Progress = Callable[[int, int], None]


def prepare(
    source: SingleSource, folder: str | os.PathLike[str], progress: Progress | None = None
) -> Manifest:
    """Writes the source's tokens into `folder` (train.npy, validation.npy) and describes them.

    Text is split before it is tokenised, by document; so for every tokenizer the same documents
    are held out. The tokenizer is written beside its tokens (tokenizer.json).

    Same files, same bytes: the result depends on names (relative to the paths given) and
    contents, not on the order or place of folders. The token files get their names only when
    both are complete; the caller writes the manifest last, and `open_corpus` checks the files
    against it, so a killed call leaves nothing that passes for done (at most a hidden
    `.prepare-*` folder). A zipf source writes nothing.

    Args:
      folder: where the token files go; made if missing.
      progress: called with (files done, files in all).

    Raises:
      ValueError: if a file cannot be read as the source says, or a split would be empty.
      OSError: if the folder cannot be written.
    """
    if isinstance(source, Zipf):
        return zipf.describe(source)
    reader = reader_of(source)
    encoding = encoding_of(source, training_texts(source))
    with _staging(Path(folder)) as staging:
        splits = _write_splits(source, encoding, reader, staging, progress)
        if isinstance(encoding, FileEncoding):
            (staging / TOKENIZER_FILE).write_text(encoding.json, encoding="utf-8")
        for path in sorted(staging.iterdir()):
            os.replace(path, Path(folder, path.name))
    if not isinstance(encoding, FileEncoding):
        Path(folder, TOKENIZER_FILE).unlink(missing_ok=True)  # Of what lay there before.
    return splits.manifest(source, reader)


def _write_splits(
    source: FileSource,
    encoding: Encoding,
    reader: Reader,
    folder: Path,
    progress: Progress | None,
) -> Splits:
    splits = Splits(source, encoding, folder)
    files = [*reader.validation_files, *reader.files]
    try:
        for n_done, file in enumerate(files, 1):
            is_held_out = n_done <= len(reader.validation_files)
            if isinstance(reader, TokenArraysReader) and reader.validation_files:
                for tokens, n_documents in reader.as_they_are(file):
                    splits.extend(tokens, n_documents, is_held_out=is_held_out)
            else:
                for document in _documents(reader, file):
                    splits.append(document, is_held_out=is_held_out)
            if progress is not None:
                progress(n_done, len(files))
        splits.finish()
    finally:
        splits.close()
    return splits


def _documents(reader: Reader, file: Path) -> Iterator[bytes]:
    """A file's documents, or the blocks of its only one where there is nothing else to split."""
    is_alone = [file] == reader.files and not reader.validation_files
    return (reader.blocks(file) if is_alone else None) or reader.documents(file)


def training_texts(source: FileSource) -> Iterator[bytes]:
    """What a vocabulary is trained on: nothing that is held out."""
    reader, fraction = reader_of(source), source.validation_fraction
    for file in reader.files:
        for document in _documents(reader, file):
            if fraction is None or not is_validation(document, fraction):
                yield document


def reader_of(source: FileSource) -> Reader:
    """What reads the documents of a source; raises ValueError."""
    match source:
        case PepsText():
            return PepsReader(source)
        case StdlibText():
            return StdlibReader(source)
        case TokenArrays():
            return TokenArraysReader(source)
    return TextFilesReader(source)


@contextlib.contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    staging = folder / f".prepare-{secrets.token_hex(4)}"
    staging.mkdir(parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
