# SPDX-License-Identifier: Apache-2.0
"""A language whose entropy is known: facts with a power-law tail, asked and answered in records."""

import math

import numpy as np
from jaxtyping import Float64, Int32, Integer

from model.data.manifest import Manifest
from model.data.source import Zipf
from model.data.streams import BLOCK, Purpose, random_stream
from model.data.synthetic.records import RecordLanguage, describe_records

GENERATOR_VERSION = 1
"""Part of the fingerprint: raise it with any change that moves a token."""


def entropy_nats(source: Zipf) -> float:
    """True entropy per token E = [h_M + r h] / m, in nats, in closed form.

    h_M = ln Z + (1+alpha)/Z sum_i ln(i) i^-(1+alpha), Z = sum_i i^-(1+alpha), i = 1..M;
    h = -(1-eps+eps/b) ln(1-eps+eps/b) - (b-1)(eps/b) ln(eps/b) per answer; the separator is
    certain. Holds for windows that start at a separator and hold whole records.
    """
    exponent = 1.0 + source.alpha
    log_i = np.log(np.arange(1.0, source.n_facts + 1.0))
    weight = np.exp(-exponent * log_i)
    Z = math.fsum(weight)
    of_fact = math.log(Z) + exponent / Z * math.fsum(log_i * weight)
    wrong = source.epsilon / source.base
    right = 1.0 - source.epsilon + wrong
    h = -right * math.log(right) - ((source.base - 1) * wrong * math.log(wrong) if wrong else 0.0)
    return (of_fact + source.n_answers * h) / source.record_length


def describe(source: Zipf) -> Manifest:
    """The manifest of a language."""
    reals = {"alpha": float(source.alpha), "epsilon": float(source.epsilon)}  # 1 is 1.0
    return describe_records(source, reals, GENERATOR_VERSION, entropy_nats(source))


class ZipfLanguage(RecordLanguage):
    """The tables of one language: fact probabilities p [M] and its noise-free records [M, m].

    pi (a bijection on [0, M)) and g_j (a random digit per fact and answer) come from
    language_seed alone.
    """

    source: Zipf

    def __init__(self, source: Zipf):
        self.source = source
        M, b, k = source.n_facts, source.base, source.n_digits
        weight = np.arange(1.0, M + 1.0) ** -(1.0 + source.alpha)
        self.probabilities = weight / weight.sum()
        cumulative = np.cumsum(weight)
        self._cumulative = cumulative / cumulative[-1]
        draws = random_stream(source.language_seed, Purpose.LANGUAGE)
        self.codes = np.argsort(draws.random(M), kind="stable")
        answers = _digit(draws.random((M, source.n_answers)), b)
        digits = self.codes[:, None] // b ** np.arange(k - 1, -1, -1) % b
        separators = np.full((M, 1), source.separator)
        dtype = np.min_scalar_type(source.separator)
        self._records = np.concatenate([separators, digits, answers], axis=1).astype(dtype)

    def sample_records(
        self, first: int, n: int, *, seed: int, purpose: Purpose
    ) -> Int32[np.ndarray, "n record_length"]:
        """Records [first, first + n) of the endless stream of (seed, purpose).

        Record t reads 1 + r draws from its own Philox blocks: one for the fact (inverse CDF),
        one per answer u: noise where u < eps, and then the digit floor(b u / eps).
        """
        source = self.source
        n_answers, eps = source.n_answers, source.epsilon
        n_blocks = -(-(1 + n_answers) // BLOCK)
        stream = random_stream(seed, purpose, block=first * n_blocks)
        draws = stream.random((n, n_blocks * BLOCK))
        facts = np.searchsorted(self._cumulative, draws[:, 0], side="right")
        records = self._records[facts].astype(np.int32)
        noise = draws[:, 1 : 1 + n_answers]
        hit = noise < eps
        records[:, -n_answers:][hit] = _digit(noise[hit] / eps if eps else noise[hit], source.base)
        return records

    def oracle_losses(self, windows: Integer[np.ndarray, "n T1"]) -> Float64[np.ndarray, "n T"]:
        """-ln P(token | all before it) under the true language, in nats, for each target.

        A digit: P(d_j | d_<j) = mass of the facts whose code starts with d_<=j over those that
        start with d_<j. An answer: 1 - eps + eps/b if it is g_j of the fact asked, else eps/b.
        A separator: certain. A token that the language cannot say costs infinity.

        Args:
          windows: of this language; they start at a separator and hold whole records.

        Returns:
          the losses of the targets windows[:, 1:].

        Raises:
          ValueError: if a separator is not where a record starts, or elsewhere.
        """
        source = self.source
        b, k = source.base, source.n_digits
        records = self.records_of(windows)
        mass = np.zeros(source.n_facts)
        mass[self.codes] = self.probabilities
        losses = np.zeros(records.shape)
        prefix = np.zeros(len(records), np.int64)
        known = np.zeros(len(records))
        with np.errstate(divide="ignore"):
            for j in range(k):
                prefix = prefix * b + records[:, 1 + j]
                reached = np.log(mass.reshape(b ** (j + 1), -1).sum(axis=1))[prefix]
                losses[:, j] = known - reached
                known = reached
            facts = np.argsort(self.codes)[prefix]
            is_right = records[:, 1 + k :] == self._records[facts, 1 + k :]
            wrong = source.epsilon / b
            losses[:, k:-1] = -np.log(np.where(is_right, 1.0 - source.epsilon + wrong, wrong))
        return losses.reshape(len(windows), -1)


def _digit(uniform: np.ndarray, base: int) -> np.ndarray:
    # minimum: u / eps may round up to 1.
    return np.minimum((uniform * base).astype(np.int32), base - 1)
