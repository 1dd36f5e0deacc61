# SPDX-License-Identifier: Apache-2.0
"""A mixture: at each place of the training order a window of one of its parts."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int32, Int64

from model.data.document_windows import DocumentWindows
from model.data.manifest import Manifest
from model.data.source import Mixture, Part, source_to_dict
from model.data.streams import Purpose, random_stream
from model.data.tokens.encoding import separator_of
from model.data.windows import Corpus

RULE_VERSION = 1
# Shares are whole multiples of 2^-24: then places up to 2^38 are counted in 64 bits.
_BITS = 24


def places(
    weights: Sequence[float], first: int, n: int, seed: int
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """The part at places [first, first + n) of the training order, and which of its own it is.

    Part by part, of the m places left to it and those behind it, it has floor(m w + phase) before
    the m-th, where w is its share of their weights and the seed draws the phase. So the shares are
    held as evenly as can be, and any place is computed by itself.
    """
    phases = random_stream(seed, Purpose.MIXTURE).bit_generator.random_raw(len(weights))
    left = np.arange(first, first + n, dtype=np.int64)
    part, own = np.zeros(n, np.int64), np.zeros(n, np.int64)
    is_open = np.ones(n, bool)
    for number, (weight, phase) in enumerate(zip(_numerators(weights), phases, strict=True)):
        offset = int(phase) >> (64 - _BITS)
        before, after = ((m * weight + offset) >> _BITS for m in (left, left + 1))
        is_mine = is_open & (after > before)
        part[is_mine], own[is_mine] = number, before[is_mine]
        is_open &= ~is_mine
        left = left - before
    return part, own


def _numerators(weights: Sequence[float]) -> list[int]:
    """Of each part's share of its own weight and those behind it, in units of 2^-24."""
    return [
        max(round(2**_BITS * weight / math.fsum(weights[number:])), 1)
        for number, weight in enumerate(weights)
    ]


class MixtureCorpus(Corpus):
    """Each part has its own order, with the seed of the run; an epoch of one is none of another.

    Validation windows come from the parts in turn, equally many of each.
    """

    def __init__(self, manifest: Manifest, source: Mixture, parts: Sequence[Corpus]):
        super().__init__(manifest)
        self._names = [part.name for part in source.parts]
        self._weights = [part.weight for part in source.parts]
        self._parts = parts

    def train_windows(
        self, first: int, n: int, *, seq_len: int, seed: int
    ) -> Int32[np.ndarray, "n T1"]:
        part, own = places(self._weights, first, n, seed)
        windows = np.empty((n, seq_len + 1), np.int32)
        for number, corpus in enumerate(self._parts):
            mine = np.flatnonzero(part == number)
            if len(mine):
                start = int(own[mine[0]])  # A part's own places follow each other.
                windows[mine] = corpus.train_windows(start, len(mine), seq_len=seq_len, seed=seed)
        return windows

    def validation_windows(
        self, n_tokens: int, seq_len: int, seed: int
    ) -> Int32[np.ndarray, "n T1"]:
        n_windows, k = -(-n_tokens // seq_len), len(self._parts)
        if n_windows < k:
            raise ValueError(
                f"validation of {n_tokens} tokens is {n_windows} windows of {seq_len} tokens, one "
                f"for each of {k} parts at least: ask for {k * seq_len} tokens or more."
            )
        windows = np.empty((n_windows, seq_len + 1), np.int32)
        for number, corpus in enumerate(self._parts):
            n_own = len(range(number, n_windows, k))
            windows[number::k] = corpus.validation_windows(n_own * seq_len, seq_len, seed)
        return windows

    def validation_documents(self, n_bytes: int, seq_len: int, seed: int) -> DocumentWindows:
        """Of the parts in turn, of each until its own have the same share of the bytes."""
        own = -(-n_bytes // len(self._parts))
        found = [part.validation_documents(own, seq_len, seed) for part in self._parts]
        part = np.repeat(np.arange(len(found)), [len(one.windows) for one in found])
        document = np.concatenate([one.document for one in found])
        order = np.lexsort((part, document))  # Windows of a document stay in theirs.
        part, document = part[order], document[order]
        begins = np.diff(document, prepend=-1) | np.diff(part, prepend=-1)
        return DocumentWindows(
            windows=np.concatenate([one.windows for one in found])[order],
            document=np.cumsum(begins != 0) - 1,
            n_bytes=np.concatenate([one.n_bytes for one in found])[order],
            domains=self._domains(part),
        )

    def validation_domains(
        self, n_tokens: int, seq_len: int, seed: int
    ) -> dict[str, Bool[np.ndarray, " n"]]:
        return self._domains(np.arange(-(-n_tokens // seq_len)) % len(self._parts))

    def _domains(self, part: Int64[np.ndarray, " n"]) -> dict[str, Bool[np.ndarray, " n"]]:
        """Of windows of these parts; of a single one all windows are."""
        names = self._names if len(self._names) > 1 else []
        return {name: part == number for number, name in enumerate(names)}

    def bytes_per_token(self, n_windows: int) -> Float[np.ndarray, " n"] | None:
        means = [part.manifest.bytes_per_token for part in self._parts]
        if None in means:
            return None
        return np.resize(np.array(means, float), n_windows)

    def n_windows(self, seq_len: int) -> int | None:
        found = [corpus.n_windows(seq_len) for corpus in self._parts]
        return None if None in found else sum(n for n in found if n is not None)


def mixed(source: Mixture, parts: Sequence[Manifest]) -> Manifest:
    """The manifest of a mixture, from those of its parts.

    Raises:
      ValueError: if vocabularies differ, or a part has fewer tokens than are to be trained on.
    """
    _check_vocabularies(source, parts)
    for part, manifest in zip(source.parts, parts, strict=True):
        if (part.unique_tokens or 0) > (manifest.n_train_tokens or math.inf):
            raise ValueError(
                f"unique_tokens of part {part.name!r} is {part.unique_tokens}: it has "
                f"{manifest.n_train_tokens} training tokens. Lower it, or give more data."
            )
    rule = {
        "mixture": RULE_VERSION,
        "parts": [
            [part.name, weight, part.unique_tokens, manifest.fingerprint]
            for part, weight, manifest in zip(
                source.parts, _numerators([p.weight for p in source.parts]), parts, strict=True
            )
        ],
    }
    bytes_per_token = [one.bytes_per_token for one in parts]
    known = [each for each in bytes_per_token if each is not None]
    return Manifest(
        kind=source.kind,
        fingerprint=hashlib.sha256(json.dumps(rule).encode()).hexdigest(),
        vocab_size=parts[0].vocab_size,
        n_documents=_sum([one.n_documents for one in parts]),
        n_train_documents=_sum([one.n_train_documents for one in parts]),
        n_validation_documents=_sum([one.n_validation_documents for one in parts]),
        n_bytes=_sum([one.n_bytes for one in parts]),
        n_train_tokens=_sum([n for _, n in _unique(source, parts)]),
        n_validation_tokens=_sum([one.n_validation_tokens for one in parts]),
        # Of the validation set, which has equally many tokens of each.
        bytes_per_token=sum(known) / len(known) if len(known) == len(parts) else None,
        entropy_nats=None,
        window_multiple=math.lcm(*(one.window_multiple for one in parts)),
        notes=tuple(_notes(source, parts)),
        source=source_to_dict(source),
        tokenizer=parts[0].tokenizer,
        parts=tuple(parts),
    )


def _check_vocabularies(source: Mixture, parts: Sequence[Manifest]) -> None:
    def vocabulary(one: Manifest) -> tuple[int, int, str]:
        return one.vocab_size, separator_of(one), str((one.tokenizer or {}).get("sha256"))

    for part, one in zip(source.parts, parts, strict=True):
        if vocabulary(one) != vocabulary(parts[0]):
            raise ValueError(
                f"part {part.name!r} of the mixture has {one.vocab_size} token ids and ends "
                f"documents with {separator_of(one)}, part {source.parts[0].name!r} has "
                f"{parts[0].vocab_size} and {separator_of(parts[0])}: parts need one vocabulary. "
                "Give them one tokenizer."
            )


def _unique(source: Mixture, parts: Sequence[Manifest]) -> list[tuple[Part, int | None]]:
    """Training tokens of each part that are read at all; None = unlimited."""
    pairs = zip(source.parts, parts, strict=True)
    return [(part, part.unique_tokens or one.n_train_tokens) for part, one in pairs]


def _sum(counts: Sequence[int | None]) -> int | None:
    return None if None in counts else sum(n for n in counts if n is not None)


def _notes(source: Mixture, parts: Sequence[Manifest]) -> Iterator[str]:
    for share, (part, n_unique) in zip(source.shares, _unique(source, parts), strict=True):
        of = "unlimited" if n_unique is None else f"{n_unique:,}"
        yield f"{part.name}: {share:.1%} of the training windows, of {of} tokens."
    for part, one in zip(source.parts, parts, strict=True):
        yield from (f"{part.name}: {note}" for note in one.notes)
