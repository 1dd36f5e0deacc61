# SPDX-License-Identifier: Apache-2.0
"""From a source to token files and their manifest: read, split by document hash, write once."""

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from model.data import zipf
from model.data.manifest import Manifest
from model.data.source import (
    PepsText,
    Source,
    StdlibText,
    TextSource,
    TokenArrays,
    Zipf,
    source_to_dict,
)
from model.data.text import PepsReader, Reader, StdlibReader, TextFilesReader
from model.data.token_arrays import TokenArraysReader
from model.data.token_files import SPLITS, TokenWriter, fingerprint, token_dtype, token_path

FileSource = TextSource | TokenArrays
Progress = Callable[[int, int], None]
_FEW_DOCUMENTS = 10


def prepare(
    source: Source, folder: str | os.PathLike[str], progress: Progress | None = None
) -> Manifest:
    """Writes the source's tokens into `folder` (train.npy, validation.npy) and describes them.

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
    with _staging(Path(folder)) as staging:
        splits = _write_splits(source, reader, staging, progress)
        for split in SPLITS:
            os.replace(token_path(staging, split), token_path(Path(folder), split))
    return splits.manifest(source, reader)


def is_validation(document: bytes, validation_fraction: float) -> bool:
    """Whether a document is held out: sha256(document) / 2^256 < validation_fraction.

    Compares the first 64 bits. By content alone, so exact duplicates always fall on one side.
    """
    digest = hashlib.sha256(document).digest()
    return int.from_bytes(digest[:8], "big") < validation_fraction * 2.0**64


class _Splits:
    """The two token files being written, and what was counted on the way.

    Where files are held out as they are, these come first: then training text can be looked up.
    """

    def __init__(self, source: FileSource, folder: Path):
        dtype = token_dtype(source.vocab_size)
        self._fraction = source.validation_fraction
        self._end = source.separator.to_bytes(dtype.itemsize, "little")
        self._writers = {split: TokenWriter(token_path(folder, split), dtype) for split in SPLITS}
        self._n_documents = dict.fromkeys(SPLITS, 0)
        self._n_empty = 0
        self._held_out: set[bytes] = set()
        self._n_held_out_trained = 0

    def append(self, document: bytes, *, is_held_out: bool = False) -> None:
        if not document:
            self._n_empty += 1
            return
        if self._fraction is None:
            digest = hashlib.sha256(document).digest()[:16]
            if is_held_out:
                self._held_out.add(digest)
            else:
                self._n_held_out_trained += digest in self._held_out
        else:
            is_held_out = is_validation(document, self._fraction)
        split = "validation" if is_held_out else "train"
        self._writers[split].append(document)
        self._writers[split].append(self._end)
        self._n_documents[split] += 1

    def extend(self, tokens: bytes, n_documents: int, *, is_held_out: bool) -> None:
        """Tokens with their separators, as they are."""
        split = "validation" if is_held_out else "train"
        self._writers[split].append(tokens)
        self._n_documents[split] += n_documents

    def finish(self) -> None:
        n_documents = sum(self._n_documents.values())
        for split in SPLITS:
            if not self._n_documents[split]:
                if self._fraction is None:
                    paths = "paths" if split == "train" else "validation_paths"
                    raise ValueError(f"no {split} data: {paths} hold nothing. Correct them.")
                raise ValueError(
                    f"no {split} data: {n_documents} documents, of which a fraction of "
                    f"{self._fraction:g} by hash is for validation. Give more documents (of plain "
                    "text, document_separator parts a file) or change validation_fraction."
                )
            self._writers[split].finish()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def manifest(self, source: FileSource, reader: Reader) -> Manifest:
        n_tokens = {split: writer.n_tokens for split, writer in self._writers.items()}
        n_documents = sum(self._n_documents.values())
        is_bytes = not isinstance(source, TokenArrays)
        unit = "UTF-8 bytes" if is_bytes else "integers made elsewhere"
        notes = [
            f"Tokens are {unit} (vocabulary {source.vocab_size}); token {source.separator} ends "
            "each document.",
            "Attention crosses documents inside a window.",
            *["Windows are trained on as they lie in the files."] * (source.order == "files"),
            *reader.notes(),
        ]
        if self._n_empty:
            notes.append(f"Left out: {self._n_empty} empty documents.")
        if (n_held_out := self._n_documents["validation"]) < _FEW_DOCUMENTS:
            notes.append(f"Only {n_held_out} documents are held out: they may be unlike others.")
        if self._n_held_out_trained:
            notes.append(
                f"{self._n_held_out_trained} training documents are validation documents, too, "
                "word for word."
            )
        return Manifest(
            kind=source.kind,
            fingerprint=fingerprint(source, {name: w.sha256 for name, w in self._writers.items()}),
            vocab_size=source.vocab_size,
            n_documents=n_documents,
            n_train_documents=self._n_documents["train"],
            n_validation_documents=self._n_documents["validation"],
            n_bytes=sum(n_tokens.values()) - n_documents if is_bytes else None,
            n_train_tokens=n_tokens["train"],
            n_validation_tokens=n_tokens["validation"],
            bytes_per_token=1.0 if not isinstance(source, TokenArrays) else source.bytes_per_token,
            entropy_nats=None,
            window_multiple=1,
            notes=tuple(notes),
            source=source_to_dict(source),
        )


def _write_splits(
    source: FileSource, reader: Reader, folder: Path, progress: Progress | None
) -> _Splits:
    splits = _Splits(source, folder)
    try:
        files = [*reader.validation_files, *reader.files]
        for n_done, file in enumerate(files, 1):
            is_held_out = n_done <= len(reader.validation_files)
            if isinstance(reader, TokenArraysReader) and reader.validation_files:
                for tokens, n_documents in reader.as_they_are(file):
                    splits.extend(tokens, n_documents, is_held_out=is_held_out)
            else:
                found = reader.blocks(file) if files == reader.files and len(files) == 1 else None
                for document in found or reader.documents(file):
                    splits.append(document, is_held_out=is_held_out)
            if progress is not None:
                progress(n_done, len(files))
        splits.finish()
    finally:
        splits.close()
    return splits


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
