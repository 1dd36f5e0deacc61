# SPDX-License-Identifier: Apache-2.0
"""What every corpus gives: windows of tokens, to train on and to validate with."""

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Bool, Float, Int32, Integer

from model.data.document_windows import DocumentWindows
from model.data.manifest import Manifest


class Corpus(ABC):
    """Windows of T + 1 tokens; inputs are [:, :-1], targets [:, 1:].

    The training order is one endless sequence of windows per seed; step s of batch size B takes
    its places [s B, (s+1) B). So a batch is a pure function of (data, seed, step), and any part
    of it can be made anywhere.
    """

    def __init__(self, manifest: Manifest):
        self.manifest = manifest

    @abstractmethod
    def train_windows(
        self, first: int, n: int, *, seq_len: int, seed: int
    ) -> Int32[np.ndarray, "n T1"]:
        """Windows at places [first, first + n) of the training order.

        Raises:
          ValueError: if the data hold no whole window of this length.
        """

    @abstractmethod
    def validation_windows(
        self, n_tokens: int, seq_len: int, seed: int
    ) -> Int32[np.ndarray, "n T1"]:
        """Fixed windows of the validation split, n = ceil(n_tokens / T).

        n T >= n_tokens targets, chosen by seed; windows do not overlap in their targets.

        Raises:
          ValueError: if the validation split holds fewer windows.
        """

    def validation_documents(self, n_bytes: int, seq_len: int, seed: int) -> DocumentWindows:
        """Whole documents of the validation split, drawn by seed until they have ``n_bytes``, the
        end of each counted as one: for every tokenizer the same ones.

        Raises:
          ValueError: if the bytes of its documents are not known, or it has fewer.
        """
        raise ValueError(self.manifest.why_no_bytes or "these data are not scored by documents.")

    def validation_domains(
        self, n_tokens: int, seq_len: int, seed: int
    ) -> dict[str, Bool[np.ndarray, " n"]]:
        """Which of these windows are of which part of the data, by its name, where there are parts
        with losses of their own."""
        return {}

    def bytes_per_token(self, n_windows: int) -> Float[np.ndarray, " n"] | None:
        """Of the first so many validation windows; None where they are not known."""
        mean = self.manifest.bytes_per_token
        return None if mean is None else np.full(n_windows, mean)

    @abstractmethod
    def n_windows(self, seq_len: int) -> int | None:
        """Training windows in one epoch; None = unlimited.

        Raises:
          ValueError: if there is none, or the length is no multiple of `window_multiple`.
        """

    def oracle_loss_nats(self, windows: Integer[np.ndarray, "n T1"]) -> float | None:
        """Loss of the true source on these windows, in nats per token; None where not known."""
        return None
