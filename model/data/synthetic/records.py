# SPDX-License-Identifier: Apache-2.0
"""Languages that are made as they are asked for, and those of records, of known entropy."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, Int32, Integer

from model.data.manifest import Manifest
from model.data.source import Language, Recall, Zipf, source_to_dict
from model.data.streams import Purpose


def describe_records(
    source: Zipf | Recall, reals: Mapping[str, float], generator: int, entropy_nats: float
) -> Manifest:
    """The manifest of a language of records.

    Args:
      entropy_nats: per token of a window that holds whole records.
      others: as `describe_generated`.
    """
    m, separator = source.record_length, source.separator
    notes = (
        f"Records of {m} tokens, each started by separator {separator}; windows start at a "
        "separator and hold whole records.",
        "Records in one window see those before them, of which they are independent.",
    )
    return describe_generated(
        source, reals, generator, entropy_nats=entropy_nats, window_multiple=m, notes=notes
    )


def describe_generated(
    source: Language,
    reals: Mapping[str, float],
    generator: int,
    *,
    entropy_nats: float | None,
    window_multiple: int,
    notes: tuple[str, ...],
) -> Manifest:
    """The manifest of a language: unlimited tokens, nothing on disk.

    Args:
      reals: fields that are real numbers.
      generator: version of what makes the tokens.
      entropy_nats, window_multiple, notes: see Manifest.
    """
    written = source_to_dict(source)
    rule = json.dumps({**written, **reals, "generator": generator}, sort_keys=True)
    return Manifest(
        kind=source.kind,
        fingerprint=hashlib.sha256(rule.encode()).hexdigest(),
        vocab_size=source.vocab_size,
        n_documents=None,
        n_train_documents=None,
        n_validation_documents=None,
        n_bytes=None,
        n_train_tokens=None,
        n_validation_tokens=None,
        bytes_per_token=None,
        entropy_nats=entropy_nats,
        window_multiple=window_multiple,
        notes=(
            *notes,
            "Generated on the fly; training and validation draw from disjoint random streams.",
        ),
        source=written,
    )


class SyntheticLanguage(ABC):
    """An endless stream of windows for each seed, and what the true language says of them."""

    def check_window(self, seq_len: int) -> None:  # noqa: B027 (windows of whole records suit)
        """Raises ValueError if it has no windows of this length."""

    @abstractmethod
    def sample_windows(
        self, first: int, n: int, *, seq_len: int, seed: int, purpose: Purpose
    ) -> Int32[np.ndarray, "n T1"]:
        """Windows [first, first + n) of the stream of (seed, purpose)."""

    @abstractmethod
    def oracle_losses(self, windows: Integer[np.ndarray, "n T1"]) -> Float64[np.ndarray, "n T"]:
        """-ln P(token | all before it) under the true language, in nats, of windows[:, 1:].

        A token that the language cannot say costs infinity.

        Args:
          windows: of this language.

        Raises:
          ValueError: if a separator is not where it must be, or elsewhere.
        """

    def oracle_loss(self, windows: Integer[np.ndarray, "n T1"]) -> float:
        """Mean of `oracle_losses`, nats per token: a model can be below it by noise only."""
        return float(self.oracle_losses(windows).mean())


class RecordLanguage(SyntheticLanguage):
    """A stream of records, independent of one another, m = ``source.record_length`` tokens each;
    windows start at a separator and hold whole records."""

    source: Zipf | Recall

    def sample_records(
        self, first: int, n: int, *, seed: int, purpose: Purpose
    ) -> Int32[np.ndarray, "n record_length"]:
        """Records [first, first + n) of the endless stream of (seed, purpose)."""
        raise NotImplementedError

    def sample_windows(
        self, first: int, n: int, *, seq_len: int, seed: int, purpose: Purpose
    ) -> Int32[np.ndarray, "n T1"]:
        """Windows [first, first + n) of the stream: whole records, then the next separator.

        Args:
          seq_len: a multiple of the record length m.
        """
        per_window = seq_len // self.source.record_length
        records = self.sample_records(
            first * per_window, n * per_window, seed=seed, purpose=purpose
        )
        windows = np.empty((n, seq_len + 1), np.int32)
        windows[:, :-1] = records.reshape(n, seq_len)
        windows[:, -1] = self.source.separator
        return windows

    def records_of(
        self, windows: Integer[np.ndarray, "n T1"]
    ) -> Integer[np.ndarray, "n_records record_length"]:
        """The records of windows; raises as `oracle_losses`."""
        m, seq_len = self.source.record_length, windows.shape[1] - 1
        starts = np.arange(seq_len + 1) % m == 0
        if seq_len % m or np.any((windows == self.source.separator) != starts):
            raise ValueError(
                f"windows {windows.shape} do not hold whole records: separator "
                f"{self.source.separator} must stand at every {m}th token, first and last, and "
                "nowhere else."
            )
        return windows[:, :-1].reshape(-1, m)
