# SPDX-License-Identifier: Apache-2.0
"""One token drawn from its logits, and how all of a sample are."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


@dataclass(frozen=True)
class Sampling:
    """How each next token is drawn, and how many.

    Attributes:
      n_tokens: at most; None: as many as a window of the run's training has room for.
      temperature: the logits are divided by it; 0 takes the most probable token.
      top_k: only so many of the most probable tokens; None: of all.
      top_p: of these, only the fewest that hold this much of their probability (nucleus sampling,
        Holtzman et al. 2020, arXiv:1904.09751); None: all.
      seed: of the draws.
    """

    n_tokens: int | None
    temperature: float
    top_k: int | None
    top_p: float | None
    seed: int


class Sampled(NamedTuple):
    """The tokens drawn; seconds to the first, and from it to the last, programs being compiled."""

    tokens: list[int]
    first_seconds: float
    other_seconds: float


def draw(logits: Float[Array, " V"], key: Key[Array, ""], sampling: Sampling) -> Int[Array, ""]:
    """A token with probability proportional to exp(logit / temperature) among those allowed."""
    if sampling.temperature == 0:
        return jnp.argmax(logits).astype(jnp.int32)
    scaled = logits / sampling.temperature
    best, _ = jax.lax.top_k(scaled, sampling.top_k or scaled.size)
    if sampling.top_p is not None:
        likely = jax.nn.softmax(best)
        is_needed = jnp.cumsum(likely) - likely < sampling.top_p
        best = jnp.where(is_needed, best, jnp.inf)
    # Equals of the last one allowed are, too.
    scaled = jnp.where(scaled >= best.min(), scaled, -jnp.inf)
    return jax.random.categorical(key, scaled).astype(jnp.int32)
