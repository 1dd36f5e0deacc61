# SPDX-License-Identifier: Apache-2.0
"""How much of the validation split training holds too, word for word.

A split by documents keeps a document whole, not what several documents have in common: licences,
quotations, generated code. What of that lies in both splits is learned by heart, and lowers the
loss. (Lee et al. 2022, arXiv:2107.06499, count strings of 50 tokens.)
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, UInt, UInt8, UInt64

from model.data.tokens.encoding import Encoding

# Tokens of a string; a power of two.
STRING = 64
# Positions that are hashed at a time: 32 MB each, twice.
_PART = 2**22


class Strings:
    """The strings of 64 bytes of some documents, as hashes: 8 bytes for each."""

    def __init__(self, documents: Iterable[bytes]):
        found = [
            _hashes(np.frombuffer(text, np.uint8)) for text in documents if len(text) >= STRING
        ]
        self._sorted = np.unique(np.concatenate([np.zeros(0, np.uint64), *found]))

    def are_in(self, document: bytes) -> bool:
        """Whether a document has any of them."""
        if len(document) < STRING or not len(self._sorted):
            return False
        return bool(_are_among(_hashes(np.frombuffer(document, np.uint8)), self._sorted).any())


def _are_among(
    hashes: UInt64[np.ndarray, " n"], wanted: UInt64[np.ndarray, " m"]
) -> Bool[np.ndarray, " n"]:
    """``wanted``: sorted, not empty."""
    return wanted[np.searchsorted(wanted, hashes).clip(max=len(wanted) - 1)] == hashes


def overlap(train: UInt[np.ndarray, " n"], validation: UInt[np.ndarray, " m"]) -> float:
    """Share of the validation tokens that lie in a string of 64 tokens which training holds.

    Strings are compared by 64-bit hashes: two that differ are taken for one with a chance of
    n m / 2^64.
    """
    if min(len(train), len(validation)) < STRING:
        return 0.0
    wanted = np.unique(_hashes(validation))
    is_held = np.zeros(len(wanted), bool)
    for start in range(0, len(train), _PART):
        found = _hashes(train[start : start + _PART + STRING - 1])
        places = np.searchsorted(wanted, found).clip(max=len(wanted) - 1)
        is_held[places[wanted[places] == found]] = True
    begins = is_held[np.searchsorted(wanted, _hashes(validation))]
    return float(_covered(begins, len(validation)).mean())


def texts(tokens: UInt[np.ndarray, " n"], encoding: Encoding) -> UInt8[np.ndarray, " m"]:
    """The documents of a token file as bytes, a NUL behind each."""
    ends = np.flatnonzero(tokens == encoding.separator) + 1
    documents = np.split(tokens, ends[:-1])
    found = b"".join(encoding.decode(one[:-1].tolist()) + b"\0" for one in documents)
    return np.frombuffer(found, np.uint8)


def _hashes(tokens: UInt[np.ndarray, " n"]) -> UInt64[np.ndarray, " n_strings"]:
    """Of the string at each position: sum_j mixed(x_j) base^(STRING-1-j) mod 2^64, by doubling."""
    hashes = _mixed(tokens.astype(np.uint64))
    base, width = 0x9E3779B97F4A7C15, 1
    while width < STRING:
        hashes = hashes[:-width] * np.uint64(base) + hashes[width:]
        base, width = base * base % 2**64, 2 * width
    return hashes


def _mixed(x: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Steele et al. 2014's SplitMix64: neighbouring ids become unrelated numbers."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _covered(begins: Bool[np.ndarray, " n_strings"], n: int) -> Bool[np.ndarray, " n"]:
    """Positions that lie in a string which begins at one of these places."""
    change = np.zeros(n + 1, np.int64)
    change[: len(begins)] += begins
    change[STRING : STRING + len(begins)] -= begins
    return np.cumsum(change[:n]) > 0
