# SPDX-License-Identifier: Apache-2.0
"""What every block is told beside the residual stream."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, Key


class Context(NamedTuple):
    """Carried through all blocks, scanned or not; only ``shared`` changes on the way.

    Attributes:
      positions: of the tokens; None: 0 to T - 1.
      segments: which document each token is of: no mixer lets tokens of different ones meet. None:
        all of one.
      memory: what an encoder has made of another sequence.
      is_causal: whether a position sees nothing behind it.
      key: of the randomness of this step; a layer gets its own, by its place in the depth.
      shared: values that a layer leaves for later ones, by name. A layer that does says what they
        are before the first block (``Layer.shared_values``).
    """

    positions: Int[Array, "#B T"] | None = None
    segments: Int[Array, "B T"] | None = None
    memory: Float[Array, "B T_memory D"] | None = None
    is_causal: bool = True
    key: Key[Array, ""] | None = None
    shared: Mapping[str, Array] = MappingProxyType({})


PLAIN_CONTEXT = Context()


def documents_apart(tokens: Int[Array, "B T"], separator: int, context: Context) -> Context:
    """The context in which each separator begins a segment, with positions of its own. Tokens
    before the first are a segment, too."""
    tokens = jax.sharding.reshard(tokens, P(jax.typeof(tokens).sharding.spec[0], None))
    is_first, at = tokens == separator, jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
    start = jax.lax.cummax(jnp.where(is_first, at, 0), axis=1)
    segments = jnp.cumsum(is_first, axis=1, dtype=jnp.int32)
    return context._replace(segments=segments, positions=at - start)


def require_causal(context: Context, mixer: str) -> None:
    """Raises ValueError where a position is to see what is behind it, as this mixer never does."""
    if not context.is_causal:
        raise ValueError(
            f"{mixer} sees only what is before a position, and the objective asks for both sides. "
            "Choose attention, or a causal objective."
        )
