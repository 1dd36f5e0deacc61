# SPDX-License-Identifier: Apache-2.0
"""Associative recall: what the best predictor loses, and what one with a small state must lose."""

import math

import numpy as np
from jaxtyping import Float64, Int32, Integer

from model.data.manifest import Manifest
from model.data.source import Recall
from model.data.streams import BLOCK, Purpose, random_stream
from model.data.synthetic.records import RecordLanguage, describe_records

GENERATOR_VERSION = 2
"""Part of the fingerprint: raise it with any change that moves a token."""


def entropy_nats(source: Recall) -> float:
    """True entropy per token E = [ln K!/(K-P)! + P ln V + Q ln P] / m, in nats: the keys, their
    values, the keys asked for; answers and the separator are certain."""
    K, V, P, Q = source.n_keys, source.n_values, source.n_pairs, source.n_queries
    of_keys = math.lgamma(K + 1) - math.lgamma(K - P + 1)
    return (of_keys + P * math.log(V) + Q * math.log(P)) / source.record_length


def least_loss_nats(source: Recall, state_bits: float) -> float:
    """Nats per token that a predictor loses at least which, when it is asked, knows of the pairs
    only what a state of so many bits holds: E + Q/m max(0, ln V - state_bits ln 2 / P).

    The P values are independent and uniform, and a state of B bits says at most B of their P log2 V
    bits; the key that is asked for is any of P. So of a mean value log2 V - B / P bits stay unknown
    (the argument by which Jelassi et al. 2024, arXiv:2402.01032, bound copying).
    """
    V, P, Q = source.n_values, source.n_pairs, source.n_queries
    unknown = max(0.0, math.log(V) - state_bits * math.log(2) / P)
    return entropy_nats(source) + Q * unknown / source.record_length


def describe(source: Recall) -> Manifest:
    """The manifest of a language."""
    return describe_records(source, {}, GENERATOR_VERSION, entropy_nats(source))


class RecallLanguage(RecordLanguage):
    """Records of pairs and queries."""

    source: Recall

    def __init__(self, source: Recall):
        self.source = source

    def sample_records(
        self, first: int, n: int, *, seed: int, purpose: Purpose
    ) -> Int32[np.ndarray, "n record_length"]:
        """Record t reads K + P + Q draws from its own Philox blocks: the order of the keys, of
        which the first P are given; their values; the places of the pairs asked for."""
        K, V, P, Q = self._sizes
        n_blocks = -(-(K + P + Q) // BLOCK)
        stream = random_stream(seed, purpose, block=first * n_blocks)
        draws = stream.random((n, n_blocks * BLOCK))
        keys = np.argsort(draws[:, :K], axis=1, kind="stable")[:, :P]
        values = (draws[:, K : K + P] * V).astype(np.int64)
        asked = (draws[:, K + P : K + P + Q] * P).astype(np.int64)
        records = np.empty((n, self.source.record_length), np.int32)
        records[:, 0] = self.source.separator
        records[:, 1 : 1 + P] = K + V + keys * V + values
        records[:, 1 + P :: 2] = np.take_along_axis(keys, asked, axis=1)
        records[:, 2 + P :: 2] = K + np.take_along_axis(values, asked, axis=1)
        return records

    def oracle_losses(self, windows: Integer[np.ndarray, "n T1"]) -> Float64[np.ndarray, "n T"]:
        """A pair: a key that has not been given, and 1 of V; a key that is asked for: 1 of P; its
        value and the separator: certain. See RecordLanguage."""
        K, V, P, _ = self._sizes
        records = self.records_of(windows)
        losses = np.zeros(records.shape)
        keys, values = np.divmod(records[:, 1 : 1 + P] - K - V, V)
        asked, answers = records[:, 1 + P :: 2], records[:, 2 + P :: 2] - K
        is_same = keys[:, :, None] == keys[:, None]
        is_new = ~np.any(np.tril(is_same, -1), axis=2) & (keys >= 0)
        matches = asked[:, :, None] == keys[:, None]
        is_given = np.any(matches, axis=2)
        told = np.take_along_axis(values, np.argmax(matches, axis=2), axis=1)
        # A target stands one before the token in a row of losses.
        losses[:, :P] = np.where(is_new, np.log((K - np.arange(P)) * V), np.inf)
        losses[:, P:-1:2] = np.where(is_given, math.log(P), np.inf)
        losses[:, self.answers] = np.where(answers == told, 0.0, np.inf)
        return losses.reshape(len(windows), -1)

    @property
    def answers(self) -> slice:
        """Where in the losses of a record those of its answers stand."""
        return slice(1 + self.source.n_pairs, -1, 2)

    @property
    def _sizes(self) -> tuple[int, int, int, int]:
        source = self.source
        return source.n_keys, source.n_values, source.n_pairs, source.n_queries
