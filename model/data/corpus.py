# SPDX-License-Identifier: Apache-2.0
"""Prepared data as windows of tokens: place p of the training order, and the validation set."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64, Integer, UInt
from numpy.lib.stride_tricks import as_strided

from model.data.document_windows import DocumentWindows, choose_documents, document_windows
from model.data.manifest import Manifest
from model.data.mixture import MixtureCorpus
from model.data.source import IMAGE_KINDS, Language, Mixture, check_images, source_from_dict
from model.data.streams import Purpose, random_stream
from model.data.synthetic.open_language import describe_language, open_language
from model.data.tokens.encoding import Encoding, open_encoding, separator_of
from model.data.tokens.token_files import (
    SPLITS,
    fingerprint,
    open_array,
    sha256_of,
    token_dtype,
    token_path,
    tokens_folder,
)
from model.data.windows import Corpus


class TokenCorpus(Corpus):
    """Token files in memory maps. Window w of a split is tokens [w T, w T + T], both included.

    Each epoch visits every window once, in an order of its own or, if not shuffled, as they lie in
    the files; a batch may straddle epochs. The windows that validate are drawn in any case. What is
    left at the end of the split, less than one window, is never seen.

    Args:
      open_encoding: what its tokens were made with; asked for where documents are scored whole.
      unique_tokens: at most, of whole windows, are trained on: always the same ones, drawn once or,
        if not shuffled, the first.
      has_records: window w is record w, tokens [w (T + 1), (w + 1) (T + 1)): of images.
    """

    def __init__(
        self,
        manifest: Manifest,
        train: UInt[np.ndarray, " n_train"],
        validation: UInt[np.ndarray, " n_validation"],
        *,
        is_shuffled: bool = True,
        open_encoding: Callable[[], Encoding],
        unique_tokens: int | None = None,
        has_records: bool = False,
    ):
        super().__init__(manifest)
        self._open_encoding = open_encoding
        self._tokens = {"train": train, "validation": validation}
        self._is_shuffled = is_shuffled
        self._unique_tokens = unique_tokens
        self._has_records = has_records

    def train_windows(
        self, first: int, n: int, *, seq_len: int, seed: int
    ) -> Int32[np.ndarray, "n T1"]:
        n_windows = self.n_windows(seq_len)
        places = []
        while n:
            epoch, start = divmod(first, n_windows)
            end = min(start + n, n_windows)
            if self._is_shuffled:
                places.append(window_order(n_windows, seed, Purpose.TRAIN, epoch, start, end))
            else:
                places.append(np.arange(start, end))
            first, n = first + end - start, n - (end - start)
        rows = places[0] if len(places) == 1 else np.concatenate(places)
        if self._unique_tokens is not None and self._is_shuffled:
            rows = self._drawn(rows, self._n_all(seq_len))
        return self._windows("train", seq_len)[rows].astype(np.int32)

    def _drawn(self, rows: Int64[np.ndarray, " n"], n_all: int) -> Int64[np.ndarray, " n"]:
        """Of all windows, those that `unique_tokens` leaves."""
        (draw,) = random_stream(0, Purpose.UNIQUE).bit_generator.random_raw(1).tolist()
        return _shuffled(rows.tolist(), n_all, draw % 2**32)

    def validation_windows(
        self, n_tokens: int, seq_len: int, seed: int
    ) -> Int32[np.ndarray, "n T1"]:
        _check_positive(n_tokens=n_tokens, seq_len=seq_len)
        n_asked = -(-n_tokens // seq_len)
        windows = self._windows("validation", seq_len)
        if len(windows) < n_asked:
            raise ValueError(
                f"validation of {n_tokens} tokens needs {n_asked} windows of {seq_len} + 1 tokens, "
                f"but the validation split holds {len(self._tokens['validation'])} tokens, which "
                f"give {len(windows)}. Lower the validation tokens or raise validation_fraction."
            )
        order = window_order(len(windows), seed, Purpose.VALIDATION, 0, 0, n_asked)
        return windows[order].astype(np.int32)

    def validation_documents(self, n_bytes: int, seq_len: int, seed: int) -> DocumentWindows:
        _check_positive(n_bytes=n_bytes, seq_len=seq_len)
        if self.manifest.why_no_bytes:
            raise ValueError(self.manifest.why_no_bytes)
        n_documents = self.manifest.n_validation_documents
        assert n_documents is not None
        order = window_order(n_documents, seed, Purpose.VALIDATION, 0, 0, n_documents)
        encoding, tokens = self._open_encoding(), self._tokens["validation"]
        chosen, sizes = choose_documents(tokens, encoding, order, n_bytes)
        return document_windows(chosen, sizes, separator=encoding.separator, seq_len=seq_len)

    def n_windows(self, seq_len: int) -> int:
        n_all = self._n_all(seq_len)
        if self._unique_tokens is None:
            return n_all
        if self._unique_tokens < seq_len:
            raise ValueError(
                f"unique_tokens is {self._unique_tokens}, less than one window of {seq_len} "
                "tokens. Raise it, or lower seq_len."
            )
        return min(n_all, self._unique_tokens // seq_len)

    def _n_all(self, seq_len: int) -> int:
        _check_positive(seq_len=seq_len)
        n_tokens = len(self._tokens["train"])
        if n_tokens <= seq_len:
            raise ValueError(
                f"the training split holds {n_tokens} tokens, less than one window of {seq_len} "
                "+ 1 tokens. Give more data or lower seq_len."
            )
        return len(self._windows("train", seq_len))

    @functools.lru_cache(maxsize=4)  # noqa: B019 (a view; a corpus lives as long as its process)
    def _windows(self, split: str, seq_len: int) -> UInt[np.ndarray, "n T1"]:
        check_images(self.manifest, seq_len)
        tokens, stride = self._tokens[split], seq_len + self._has_records
        n_windows = max(len(tokens) - (not self._has_records), 0) // stride
        size = tokens.itemsize
        return as_strided(tokens, (n_windows, seq_len + 1), (stride * size, size), writeable=False)


class GeneratedCorpus(Corpus):
    """Windows of a language, generated when asked for. The order never repeats."""

    def __init__(self, manifest: Manifest, source: Language):
        super().__init__(manifest)
        self.language = open_language(source)

    def train_windows(
        self, first: int, n: int, *, seq_len: int, seed: int
    ) -> Int32[np.ndarray, "n T1"]:
        self.n_windows(seq_len)
        return self.language.sample_windows(
            first, n, seq_len=seq_len, seed=seed, purpose=Purpose.TRAIN
        )

    def validation_windows(
        self, n_tokens: int, seq_len: int, seed: int
    ) -> Int32[np.ndarray, "n T1"]:
        _check_positive(n_tokens=n_tokens)
        self.n_windows(seq_len)
        return self.language.sample_windows(
            0, -(-n_tokens // seq_len), seq_len=seq_len, seed=seed, purpose=Purpose.VALIDATION
        )

    def n_windows(self, seq_len: int) -> None:
        _check_positive(seq_len=seq_len)
        check_images(self.manifest, seq_len)
        m = self.manifest.window_multiple
        if seq_len % m:
            raise ValueError(
                f"seq_len {seq_len} does not hold whole records of {m} tokens: choose a multiple "
                f"of {m}, such as {max(m, seq_len // m * m)}."
            )
        self.language.check_window(seq_len)

    def oracle_loss_nats(self, windows: Integer[np.ndarray, "n T1"]) -> float:
        return self.language.oracle_loss(windows)


def open_corpora(manifest: Manifest, folder: str | os.PathLike[str]) -> dict[str, Corpus]:
    """The data that the runs of a study are trained on, by fingerprint; as `open_corpus`."""
    return {one.fingerprint: open_corpus(one, folder) for one in (manifest, *manifest.variants)}


def open_corpus(
    manifest: Manifest, folder: str | os.PathLike[str], unique_tokens: int | None = None
) -> Corpus:
    """The data that `manifest` describes, its token files in `folder` checked to the last bit.

    Reads the files once to compare their fingerprint (about 1 s per GB).

    Args:
      unique_tokens: to be trained on at most; None: all.

    Raises:
      ValueError: if a token file is missing, unreadable, or not the one described.
    """
    source = source_from_dict(manifest.source)
    if isinstance(source, Mixture):
        pairs = zip(source.parts, manifest.parts, strict=True)
        parts = [open_corpus(one, folder, part.unique_tokens) for part, one in pairs]
        return MixtureCorpus(manifest, source, parts)
    if isinstance(source, Language):
        if describe_language(source).fingerprint != manifest.fingerprint:
            raise ValueError(
                f"the manifest is of another {source.kind} language, or of another version of its "
                "generator. Write it again with `isoflop data STUDY`."
            )
        return GeneratedCorpus(manifest, source)
    try:
        below = tokens_folder(Path(folder), manifest.fingerprint)
        arrays = {split: open_array(token_path(below, split)) for split in SPLITS}
    except ValueError as error:
        raise ValueError(f"{error} Prepare the data with `isoflop data STUDY`.") from error
    dtype = token_dtype(manifest.vocab_size)
    found = fingerprint(
        vocab_size=manifest.vocab_size,
        separator=separator_of(manifest),
        order=source.order,
        sha256_by_split={split: sha256_of(array) for split, array in arrays.items()},
    )
    is_typed = all(array.dtype == dtype and array.ndim == 1 for array in arrays.values())
    if found != manifest.fingerprint or not is_typed:
        raise ValueError(
            f"token files in {os.fspath(folder)!r} have fingerprint {found[:12]}, the manifest "
            f"{manifest.fingerprint[:12]}: they changed. Prepare them again with "
            "`isoflop data STUDY`."
        )
    return TokenCorpus(
        manifest,
        arrays["train"],
        arrays["validation"],
        is_shuffled=source.order == "shuffled",
        unique_tokens=unique_tokens,
        has_records=manifest.kind in IMAGE_KINDS,
        open_encoding=functools.partial(open_encoding, manifest, Path(folder)),
    )


# Of the cipher that shuffles; Grain's own loaders use as many.
_ROUNDS = 4


def window_order(
    n_windows: int, seed: int, purpose: Purpose, epoch: int, start: int, end: int
) -> Int64[np.ndarray, " n"]:
    """The windows that an epoch visits at places [start, end): part of a permutation.

    Grain's index shuffle computes each place by itself, so an order of any length takes no memory.
    """
    (draw,) = random_stream(seed, purpose, chapter=epoch).bit_generator.random_raw(1).tolist()
    return _shuffled(range(start, end), n_windows, draw % 2**32)


def _shuffled(places: Sequence[int], n_windows: int, key: int) -> Int64[np.ndarray, " n"]:
    """Where a permutation of [0, n_windows) takes these places."""
    from grain.experimental import index_shuffle  # Brings JAX; the doctor reads data without it.

    order = (index_shuffle(i, max_index=n_windows - 1, seed=key, rounds=_ROUNDS) for i in places)
    return np.fromiter(order, np.int64, len(places))


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} is {value}: it must be at least 1.")
