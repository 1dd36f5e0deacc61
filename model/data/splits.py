# SPDX-License-Identifier: Apache-2.0
"""Documents on their way into the token files of two splits, and what was counted of them."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from model.data.encoding import ByteEncoding, Encoding, FileEncoding, IdEncoding
from model.data.manifest import Manifest
from model.data.source import FileSource, TokenArrays, source_to_dict
from model.data.text import Reader
from model.data.token_files import SPLITS, TokenWriter, fingerprint, token_dtype, token_path

_FEW_DOCUMENTS = 10
_BATCH_BYTES = 2**20


def is_validation(document: bytes, validation_fraction: float) -> bool:
    """Whether a document is held out: sha256(document) / 2^256 < validation_fraction.

    Compares the first 64 bits. By content alone, so exact duplicates always fall on one side.
    """
    digest = hashlib.sha256(document).digest()
    return int.from_bytes(digest[:8], "big") < validation_fraction * 2.0**64


class Splits:
    """The two token files being written, and what was counted on the way.

    Where files are held out as they are, these come first: then training text can be looked up.
    """

    def __init__(self, source: FileSource, encoding: Encoding, folder: Path):
        dtype = token_dtype(encoding.vocab_size)
        self._fraction = source.validation_fraction
        self._encoding = encoding
        self._end = encoding.separator.to_bytes(dtype.itemsize, "little")
        self._writers = {split: TokenWriter(token_path(folder, split), dtype) for split in SPLITS}
        self._n_documents = dict.fromkeys(SPLITS, 0)
        self._n_bytes = dict.fromkeys(SPLITS, 0)
        self._n_empty = 0
        self._n_changed = 0
        self._waiting: list[tuple[str, bytes]] = []
        self._n_waiting = 0
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
        self._waiting.append(("validation" if is_held_out else "train", document))
        self._n_waiting += len(document)
        if self._n_waiting >= _BATCH_BYTES:
            self._encode()

    def _encode(self) -> None:
        """Writes what waits: tokenizers are faster by many documents than by one."""
        documents = [document for _, document in self._waiting]
        encoded = self._encoding.encode(documents)
        for (split, document), tokens in zip(self._waiting, encoded, strict=True):
            self._writers[split].append(tokens)
            self._writers[split].append(self._end)
            self._n_documents[split] += 1
            self._n_bytes[split] += len(document)
            if split == "validation" and isinstance(self._encoding, FileEncoding):
                back = self._encoding.decode(self._encoding.ids(tokens))
                self._n_changed += back != document
        self._waiting, self._n_waiting = [], 0

    def extend(self, tokens: bytes, n_documents: int, *, is_held_out: bool) -> None:
        """Tokens with their separators, as they are."""
        split = "validation" if is_held_out else "train"
        self._writers[split].append(tokens)
        self._n_documents[split] += n_documents

    def finish(self) -> None:
        self._encode()
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
            n_bytes=sum(self._n_bytes.values()) if not isinstance(encoding, IdEncoding) else None,
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
            yield f"Only {n_held_out} documents are held out: they may be unlike others."
        if self._n_held_out_trained:
            yield (
                f"{self._n_held_out_trained} training documents are validation documents, too, "
                "word for word."
            )
