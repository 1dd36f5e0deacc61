# SPDX-License-Identifier: Apache-2.0
"""Documents on their way into the token files of two splits, and what was counted of them."""

import hashlib
import json
import math
import os
from array import array
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from model.data.manifest import Manifest
from model.data.overlap import STRING, Strings
from model.data.source import FileSource, TokenArrays, source_to_dict
from model.data.text import Reader
from model.data.tokens.encoding import ByteEncoding, Encoding, FileEncoding, IdEncoding
from model.data.tokens.token_files import SPLITS, TokenWriter, fingerprint, token_dtype, token_path

_FEW_DOCUMENTS = 10
_MOST_NAMED = 20
OVERLAPPING = f"copies of others, or with {STRING} bytes in a row of what is held out"
_BATCH_BYTES = 2**22
KEPT_BYTES = 2**26
"""Of text: what a killed call may lose at most, and a little more."""
KEPT = "kept.json"


def is_validation(document: bytes, validation_fraction: float) -> bool:
    """Whether a document is held out: sha256(document) / 2^256 < validation_fraction.

    Compares the first 64 bits. By content alone, so exact duplicates always fall on one side.
    """
    return _hash(document) < validation_fraction * 2.0**64


def _hash(document: bytes) -> int:
    return int.from_bytes(hashlib.sha256(document).digest()[:8], "big")


def _read_kept(folder: Path) -> dict[str, Any]:
    path = folder / KEPT
    return json.loads(path.read_text()) if path.exists() else {}


class Waiting(NamedTuple):
    """A document on its way."""

    split: str
    document: bytes
    hashed: int


Batch = list[Waiting]


class Changed(Exception):
    """Documents are not those that a killed call kept the tokens of."""


class Splits:
    """The two token files being written, and what was counted on the way.

    Where files are held out as they are, these come first: then training text can be looked up.

    What is written is kept from time to time: a call that follows a killed one is given the same
    documents, and tokenises those only that are not kept.

    Args:
      held_out: strings of what is held out; training documents that have one of them are dropped.
    """

    def __init__(
        self, source: FileSource, encoding: Encoding, folder: Path, held_out: Strings | None = None
    ):
        dtype = token_dtype(encoding.vocab_size)
        self._folder, self._encoding, self._strings = folder, encoding, held_out
        self._fraction, self._drop = source.validation_fraction, getattr(source, "drop", None)
        self._end = encoding.separator.to_bytes(dtype.itemsize, "little")
        kept = _read_kept(folder)
        self._n_kept, self._text_kept = kept.get("n_documents", 0), kept.get("text", "")
        self._n_changed = kept.get("n_changed", 0)
        self._writers = {
            split: TokenWriter(token_path(folder, split), dtype, kept.get(split))
            for split in SPLITS
        }
        self._n_documents = dict.fromkeys(SPLITS, 0)
        self._n_bytes = dict.fromkeys(SPLITS, 0)
        self._hashes = {split: array("Q") for split in SPLITS}
        self._n_empty = self._n_dropped = 0
        self._seen: set[int] = set()
        self._text = hashlib.sha256()
        self._n_written = 0
        self._waiting: Batch = []
        self._n_waiting = self._n_since_kept = 0
        self._worker = ThreadPoolExecutor(1)
        self._running: tuple[Batch, Future[tuple[list[bytes], int]]] | None = None

    def append(self, document: bytes, *, is_held_out: bool = False) -> None:
        """Raises Changed if documents that are kept were others."""
        if not document:
            self._n_empty += 1
            return
        hashed = _hash(document)
        if self._fraction is not None:
            is_held_out = hashed < self._fraction * 2.0**64
        if self._drop and not is_held_out and self._is_dropped(document, hashed):
            self._n_dropped += 1
            return
        split = "validation" if is_held_out else "train"
        self._hashes[split].append(hashed)
        self._n_documents[split] += 1
        self._n_bytes[split] += len(document)
        if self._n_written < self._n_kept:
            self._count(hashed)
            if self._n_written == self._n_kept and self._text.hexdigest() != self._text_kept:
                raise Changed
            return
        self._waiting.append(Waiting(split, document, hashed))
        self._n_waiting += len(document)
        if self._n_waiting >= _BATCH_BYTES:
            self._encode()

    @property
    def n_bytes(self) -> int:
        """Of text so far."""
        return sum(self._n_bytes.values())

    def _is_dropped(self, document: bytes, hashed: int) -> bool:
        is_copy = hashed in self._seen
        self._seen.add(hashed)
        return is_copy or (self._strings is not None and self._strings.are_in(document))

    def _count(self, hashed: int) -> None:
        self._text.update(hashed.to_bytes(8, "big"))
        self._n_written += 1

    def _encode(self) -> None:
        """Gives what waits to a thread, and writes what that has done: reading goes on."""
        batch, self._waiting, self._n_waiting = self._waiting, [], 0
        future = self._worker.submit(self._encoded, batch)
        self._write()
        self._running = batch, future

    def _encoded(self, batch: Batch) -> tuple[list[bytes], int]:
        """Tokens of each document; how many that are held out do not come back from theirs."""
        encoded = self._encoding.encode([one.document for one in batch])
        if not isinstance(self._encoding, FileEncoding):
            return encoded, 0
        n_changed = sum(
            self._encoding.decode(self._encoding.ids(tokens)) != one.document
            for one, tokens in zip(batch, encoded, strict=True)
            if one.split == "validation"
        )
        return encoded, n_changed

    def _write(self) -> None:
        if self._running is None:
            return
        batch, future = self._running
        self._running = None
        encoded, n_changed = future.result()
        for one, tokens in zip(batch, encoded, strict=True):
            self._writers[one.split].append(tokens)
            self._writers[one.split].append(self._end)
            self._count(one.hashed)
            self._n_since_kept += len(one.document)
        self._n_changed += n_changed
        if self._n_since_kept >= KEPT_BYTES:
            self._keep()

    def _keep(self) -> None:
        """Notes what lies in the files for certain."""
        self._n_since_kept = 0
        kept = {split: writer.sync() for split, writer in self._writers.items()}
        about = {"n_documents": self._n_written, "text": self._text.hexdigest()}
        temporary = self._folder / f".{KEPT}"
        temporary.write_text(json.dumps(kept | about | {"n_changed": self._n_changed}))
        os.replace(temporary, self._folder / KEPT)

    def extend(self, tokens: bytes, n_documents: int, *, is_held_out: bool) -> None:
        """Tokens with their separators, as they are."""
        split = "validation" if is_held_out else "train"
        self._writers[split].append(tokens)
        self._n_documents[split] += n_documents

    def finish(self) -> None:
        """Raises Changed if fewer documents came than are kept; ValueError if a split is empty."""
        self._encode()
        self._write()
        if self._n_written < self._n_kept:
            raise Changed
        n_documents = sum(self._n_documents.values())
        for split in SPLITS:
            if not self._n_documents[split]:
                if self._fraction is None:
                    paths = "paths" if split == "train" else "validation_paths"
                    raise ValueError(f"no {split} data: {paths} hold nothing. Correct them.")
                few = f"{n_documents} document{'s' * (n_documents != 1)}"
                least = "" if split == "train" else f" ({self._least_fraction():g} or more)"
                raise ValueError(
                    f"no {split} data: {few}, of which a fraction of {self._fraction:g} by hash is "
                    "for validation. Give more documents (of plain text, document_separator parts "
                    f"a file), change validation_fraction{least}, or name files for validation "
                    "(validation_paths)."
                )
            self._writers[split].finish()

    def _least_fraction(self) -> float:
        """The smallest share that holds out a document, of two digits; of those to train on."""
        lowest = min(self._hashes["train"]) / 2.0**64
        step = 10.0 ** (math.floor(math.log10(lowest)) - 1)
        return step * (math.floor(lowest / step) + 1)

    def close(self) -> None:
        self._worker.shutdown()
        for writer in self._writers.values():
            writer.close()

    def manifest(self, source: FileSource, reader: Reader) -> Manifest:
        encoding = self._encoding
        n_tokens = {split: writer.n_tokens for split, writer in self._writers.items()}
        return Manifest(
            kind=source.kind,
            fingerprint=fingerprint(
                vocab_size=encoding.vocab_size,
                separator=encoding.separator,
                order=source.order,
                sha256_by_split={name: w.sha256 for name, w in self._writers.items()},
            ),
            vocab_size=encoding.vocab_size,
            n_documents=sum(self._n_documents.values()),
            n_train_documents=self._n_documents["train"],
            n_validation_documents=self._n_documents["validation"],
            n_bytes=self.n_bytes if not isinstance(encoding, IdEncoding) else None,
            n_train_tokens=n_tokens["train"],
            n_validation_tokens=n_tokens["validation"],
            bytes_per_token=self._bytes_per_token(source),
            entropy_nats=None,
            window_multiple=1,
            notes=(*self._own_notes(source), *reader.notes(), *self._notes_on_documents()),
            source=source_to_dict(source),
            tokenizer=encoding.described() if isinstance(encoding, FileEncoding) else None,
        )

    def _bytes_per_token(self, source: FileSource) -> float | None:
        """Of what is held out. A document's end counts as a byte, as where tokens are bytes. None
        where text does not come back: its bytes are then not what is predicted."""
        if isinstance(source, TokenArrays):
            return source.bytes_per_token
        n_bytes = self._n_bytes["validation"] + self._n_documents["validation"]
        return None if self._n_changed else n_bytes / self._writers["validation"].n_tokens

    def _own_notes(self, source: FileSource) -> Iterator[str]:
        units = {
            ByteEncoding: "UTF-8 bytes",
            FileEncoding: "a tokenizer's",
            IdEncoding: "integers made elsewhere",
        }
        unit = units[type(self._encoding)]
        yield (
            f"Tokens are {unit} (vocabulary {self._encoding.vocab_size}); token "
            f"{self._encoding.separator} ends each document."
        )
        if isinstance(self._encoding, FileEncoding):
            special = self._encoding.special
            named = ", ".join(map(repr, special[:_MOST_NAMED]))
            more = f" and {len(special) - _MOST_NAMED} more" * (len(special) > _MOST_NAMED)
            yield f"Special tokens, which no text becomes: {named or 'none'}{more}."
        yield "Documents in one window see those before them, unless a study has documents_apart."
        if source.order == "files":
            yield "Windows are trained on as they lie in the files."

    def _notes_on_documents(self) -> Iterator[str]:
        if self._n_empty:
            yield f"Left out: {self._n_empty} empty documents."
        if self._n_changed:
            yield (
                f"{self._n_changed} documents that are held out do not come back from their tokens "
                "as they were: there are no bits per byte."
            )
        if (n_held_out := self._n_documents["validation"]) < _FEW_DOCUMENTS:
            held_out = f"{n_held_out} document{'s are' if n_held_out > 1 else ' is'} held out"
            yield f"Only {held_out}: documents may differ much."
        yield from self._notes_on_copies()

    def _notes_on_copies(self) -> Iterator[str]:
        train, validation = (np.frombuffer(self._hashes[split], np.uint64) for split in SPLITS)
        if n_both := int(np.isin(train, validation).sum()):
            yield (f"{n_both} training documents are validation documents, too, word for word.")
        for split, hashes in (("training", train), ("validation", validation)):
            if n_copies := len(hashes) - len(np.unique(hashes)):
                yield f"{n_copies} {split} documents are copies of others."
        if self._drop:
            reasons = {"duplicates": "copies of others", "overlap": OVERLAPPING}
            yield f"Dropped: {self._n_dropped} training documents, {reasons[self._drop]}."
