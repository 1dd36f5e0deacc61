# SPDX-License-Identifier: Apache-2.0
"""How much of the validation split training holds too, word for word.

A split by documents keeps a document whole, not what several documents have in common: licences,
quotations, generated code. What of that lies in both splits is learned by heart, and lowers the
loss. (Lee et al. 2022, arXiv:2107.06499, count strings of 50 tokens.)
"""

import numpy as np
from jaxtyping import Bool, UInt, UInt64

# Tokens of a string; a power of two.
STRING = 64
# Positions that are hashed at a time: 32 MB each, twice.
_PART = 2**22


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
