# SPDX-License-Identifier: Apache-2.0
"""The loss of one run by how many tokens a prediction sees."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextCurve:
    """Bins of predictions, by the tokens before them.

    Attributes:
      label: of the run's setting; "" where a study has one only.
      budget: training FLOPs.
      least_seen, most_seen: of each bin, in tokens.
      losses: the mean of each, in nats per token.
    """

    label: str
    budget: float
    least_seen: tuple[int, ...]
    most_seen: tuple[int, ...]
    losses: tuple[float, ...]
