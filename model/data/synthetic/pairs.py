# SPDX-License-Identifier: Apache-2.0
"""Pairs of a source and a target of as many words, with the alignment that a network must find."""

import math

import numpy as np
from jaxtyping import Float64, Int32, Int64, Integer

from model.data.manifest import Manifest
from model.data.source import Pairs
from model.data.streams import BLOCK, Purpose, random_stream
from model.data.synthetic.records import SyntheticLanguage, describe_generated

GENERATOR_VERSION = 1
"""Part of the fingerprint: raise it with any change that moves a token."""


def describe(source: Pairs) -> Manifest:
    """The manifest of a language. Its entropy per token depends on the length of a window: each
    word of a source is new, and nothing of the target is."""
    notes = (
        f"A window is one pair of as many words: separator {source.separator}, the source, "
        f"{source.n_words} before the target; the source is its first half.",
    )
    return describe_generated(
        source, {}, GENERATOR_VERSION, entropy_nats=None, window_multiple=2, notes=notes
    )


class PairsLanguage(SyntheticLanguage):
    """Windows of one pair each; the dictionary comes from language_seed alone."""

    def __init__(self, source: Pairs):
        self.source = source
        draws = random_stream(source.language_seed, Purpose.LANGUAGE).random(source.n_words)
        is_same = source.task != "translation"
        self.dictionary = np.arange(source.n_words) if is_same else np.argsort(draws, kind="stable")

    def check_window(self, seq_len: int) -> None:
        self.source.n_source_words(seq_len)

    def sample_windows(
        self, first: int, n: int, *, seq_len: int, seed: int, purpose: Purpose
    ) -> Int32[np.ndarray, "n T1"]:
        """Window t reads from its own Philox blocks the words of the source; of "lookup" their
        order, then their values."""
        S = self.source.n_source_words(seq_len)
        is_lookup = self.source.task == "lookup"
        n_blocks = -(-(1 + is_lookup) * S // BLOCK)
        stream = random_stream(seed, purpose, block=first * n_blocks)
        draws = stream.random((n, n_blocks * BLOCK))
        if is_lookup:
            n_values = self.source.n_words // S
            keys = np.argsort(draws[:, :S], axis=1, kind="stable")
            words = keys * n_values + (draws[:, S : 2 * S] * n_values).astype(np.int64)
        else:
            words = (draws[:, :S] * self.source.n_words).astype(np.int64)
        windows = np.full((n, seq_len + 1), self.source.separator, np.int32)
        windows[:, 1 : S + 1] = words
        windows[:, S + 1] = self.source.n_words
        windows[:, S + 2 : -1] = self._targets(words)
        return windows

    def alignment(self, windows: Integer[np.ndarray, "n T1"]) -> Int64[np.ndarray, "n S"]:
        """Of every word of the targets the place in its source, from 0, of the word that it comes
        from."""
        return self._alignment(self._words(windows))

    def oracle_losses(self, windows: Integer[np.ndarray, "n T1"]) -> Float64[np.ndarray, "n T"]:
        """Of a word of the source: 1 of n_words; of "lookup": 1 of the keys that are left, and of
        the values. What follows is certain. See SyntheticLanguage."""
        words = self._words(windows)
        n_words, S = self.source.n_words, words.shape[1]
        losses = np.zeros((len(windows), windows.shape[1] - 1))
        losses[:, :S] = math.log(n_words)
        can_be = words < n_words
        if self.source.task == "lookup":
            n_values = n_words // S
            keys = words // n_values
            is_same = keys[:, :, None] == keys[:, None]
            can_be = (keys < S) & ~np.any(np.tril(is_same, -1), axis=2)
            losses[:, :S] = np.log(S - np.arange(S)) + math.log(n_values)
        losses[:, :S][~can_be] = np.inf
        is_told = windows[:, S + 2 : -1] == self._targets(np.minimum(words, n_words - 1))
        losses[:, S + 1 : -1] = np.where(is_told, 0.0, np.inf)
        return losses

    def _words(self, windows: Integer[np.ndarray, "n T1"]) -> Int64[np.ndarray, "n S"]:
        """The words of the sources."""
        T = windows.shape[1] - 1
        S = self.source.n_source_words(T)
        places = np.arange(T + 1)
        marks = {self.source.separator: (places == 0) | (places == T)}
        marks[self.source.n_words] = places == S + 1
        if any(np.any((windows == token) != at) for token, at in marks.items()):
            raise ValueError(
                f"windows {windows.shape} are no pairs: separator {self.source.separator} stands "
                f"at both ends, {self.source.n_words} behind {S} words, and neither elsewhere."
            )
        return windows[:, 1 : S + 1].astype(np.int64)

    def _alignment(self, words: Int64[np.ndarray, "n S"]) -> Int64[np.ndarray, "n S"]:
        places = np.broadcast_to(np.arange(words.shape[1]), words.shape)
        match self.source.task:
            case "reverse":
                return places[:, ::-1]
            case "lookup":
                return np.argsort(words, axis=1, kind="stable")
            case "translation":
                # The lower half of the words are adjectives. Two swaps never touch: what is behind
                # an adjective and before a noun cannot be both.
                is_adjective = words < self.source.n_words // 2
                is_turned = is_adjective[:, :-1] & ~is_adjective[:, 1:]
                edge = np.zeros((len(words), 1), bool)
                later, earlier = np.hstack([is_turned, edge]), np.hstack([edge, is_turned])
                return places + later - earlier
        return places

    def _targets(self, words: Int64[np.ndarray, "n S"]) -> Int64[np.ndarray, "n S"]:
        return self.dictionary[np.take_along_axis(words, self._alignment(words), axis=1)]
