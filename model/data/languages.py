# SPDX-License-Identifier: Apache-2.0
"""Sources that are made as they are asked for. Standard library only: planning imports this."""

import math
from dataclasses import dataclass
from typing import ClassVar

from model.data.source_checks import check_int, check_real, check_that

MAX_SEED = 2**64 - 1
MAX_ZIPF_TABLE_TOKENS = 2**25
"""Largest table of distinct records, b^k (1+k+r) tokens, that a `Zipf` language may need."""
MAX_RECALL = 2**16
"""Most keys, values, pairs and queries of a `Recall`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Zipf:
    """A synthetic language of known entropy: records about facts i = 1..M with p_i ~ i^-(1+alpha).

    A record is m = 1 + k + r tokens: the separator (id b), the k base-b digits of pi(i), most
    significant first, then r answers g_j(i), each replaced by a uniform digit with probability
    epsilon. Digits are the ids 0..b-1; M = b^k. See `model.data.synthetic.zipf`.

    Args:
      alpha: tail exponent, > 0.
      epsilon: probability that an answer is replaced by a uniform digit, 0 <= x <= 1.
      base: b, number of digits, >= 2.
      n_digits: k, digits of a question, >= 1.
      n_answers: r, answers of a record, >= 1.
      language_seed: fixes pi and g; not the order in which records are drawn.
    """

    kind: ClassVar[str] = "zipf"
    alpha: float
    epsilon: float
    base: int
    n_digits: int
    n_answers: int
    language_seed: int

    def __post_init__(self) -> None:
        check_real(self.kind, "alpha", self.alpha, 0.0, math.inf)
        check_real(self.kind, "epsilon", self.epsilon, 0.0, 1.0, closed=True)
        check_int(self.kind, "base", self.base, 2, MAX_ZIPF_TABLE_TOKENS)
        check_int(self.kind, "n_digits", self.n_digits, 1, MAX_ZIPF_TABLE_TOKENS)
        check_int(self.kind, "n_answers", self.n_answers, 1, MAX_ZIPF_TABLE_TOKENS)
        check_int(self.kind, "language_seed", self.language_seed, 0, MAX_SEED)
        log2_table = self.n_digits * math.log2(self.base) + math.log2(self.record_length)
        if log2_table > math.log2(MAX_ZIPF_TABLE_TOKENS):
            raise ValueError(
                f"base {self.base}, n_digits {self.n_digits} and n_answers {self.n_answers} of "
                f"source 'zipf' need a table of 2^{log2_table:.1f} tokens (base^n_digits records): "
                f"at most 2^{math.log2(MAX_ZIPF_TABLE_TOKENS):.0f}. Lower base or n_digits."
            )

    @property
    def record_length(self) -> int:
        """Tokens per record, m = 1 + k + r; a window holds whole records."""
        return 1 + self.n_digits + self.n_answers

    @property
    def n_facts(self) -> int:
        """Number of facts, M = b^k."""
        return self.base**self.n_digits

    @property
    def vocab_size(self) -> int:
        """b digits and the separator."""
        return self.base + 1

    @property
    def separator(self) -> int:
        """The id after the last digit."""
        return self.base


@dataclass(frozen=True, kw_only=True, slots=True)
class Recall:
    """Associative recall with several queries, whose entropy is known (Arora et al. 2023, Zoology,
    arXiv:2312.04927): what was bound to a key in the context is to be said again.

    A record is m = 1 + P + 2Q tokens: the separator, P pairs of a key and its value, then Q
    queries: a key that was given, each of the P as likely as another, and its value. Keys of a
    record differ; keys and values are drawn anew for each. A pair is one token, so that to remember
    is all that is asked: where the value stands behind its key, a network has to join the two
    first. Keys are the ids 0 to K - 1, values K to K + V - 1, the pair of key k and value v is
    K + V + k V + v, the separator K + V + K V. See `model.data.synthetic.recall`.

    Args:
      n_keys: K >= P.
      n_values: V >= 2.
      n_pairs: P >= 1.
      n_queries: Q >= 1.
    """

    kind: ClassVar[str] = "recall"
    n_keys: int
    n_values: int
    n_pairs: int
    n_queries: int

    def __post_init__(self) -> None:
        check_int(self.kind, "n_pairs", self.n_pairs, 1, MAX_RECALL)
        check_int(self.kind, "n_keys", self.n_keys, self.n_pairs, MAX_RECALL)
        check_int(self.kind, "n_values", self.n_values, 2, MAX_RECALL)
        check_int(self.kind, "n_queries", self.n_queries, 1, MAX_RECALL)

    @property
    def record_length(self) -> int:
        """Tokens per record, m; a window holds whole records."""
        return 1 + self.n_pairs + 2 * self.n_queries

    @property
    def vocab_size(self) -> int:
        """Keys, values, pairs of them, and the separator."""
        return self.separator + 1

    @property
    def separator(self) -> int:
        """The id after the last pair."""
        return self.n_keys + self.n_values + self.n_keys * self.n_values


PAIR_TASKS = ("copy", "reverse", "lookup", "translation")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """A source and the target that follows from it, word for word: which word of the source each
    word of the target comes from is known. A window is one pair, both of S words:

        separator x_1 ... x_S  go y_1 ... y_S  separator (of the next window)

    so that seq_len = 2 S + 2, of which the source has the first half. Words are the ids 0 to
    n_words - 1, "go" is n_words, the separator n_words + 1. See `model.data.synthetic.pairs`.

    Args:
      task: "copy": y = x. "reverse": the last word first. "lookup": every x has a key, 0 to S - 1,
        each once, in any order, and a value; the target has them by their keys. "translation":
        every word is another one in the other language, and of an adjective before a noun the noun
        comes first.
      n_words: of "lookup" 2 S at least: word w has key w // (n_words // S).
      language_seed: fixes the dictionary of "translation".
    """

    kind: ClassVar[str] = "pairs"
    task: str
    n_words: int
    language_seed: int

    def __post_init__(self) -> None:
        legal = f"one of {', '.join(PAIR_TASKS)}"
        check_that(self, "task", self.task in PAIR_TASKS, legal)
        check_int(self.kind, "n_words", self.n_words, 2, MAX_RECALL)
        check_int(self.kind, "language_seed", self.language_seed, 0, MAX_SEED)

    def n_source_words(self, seq_len: int) -> int:
        """S of a window of so many tokens.

        Raises:
          ValueError: if no pair fills it.
        """
        if seq_len < 4 or seq_len % 2:
            raise ValueError(
                f"seq_len={seq_len}: a window of source 'pairs' is a separator, S words, 'go' and "
                "S words. Make it 2 S + 2."
            )
        n = seq_len // 2 - 1
        if self.task == "lookup" and self.n_words < 2 * n:
            raise ValueError(
                f"seq_len={seq_len}: sources of {n} words are too long for task 'lookup' with "
                f"n_words={self.n_words}. Make seq_len at most {self.n_words + 2}, or n_words more."
            )
        return n

    @property
    def vocab_size(self) -> int:
        """Words, "go", and the separator."""
        return self.n_words + 2

    @property
    def separator(self) -> int:
        """The last id."""
        return self.n_words + 1
