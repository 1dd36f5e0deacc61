# SPDX-License-Identifier: Apache-2.0
"""What a learning-rate sweep trains."""

from dataclasses import dataclass

FIELD = "optimizer.learning_rate"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """What is trained: every rate and seed at every width and run length.

    Attributes:
      widths: d_model. n_tokens: run lengths. rates: factors on the recipe's own rate.
    """

    widths: tuple[int, ...]
    n_tokens: tuple[float, ...]
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
