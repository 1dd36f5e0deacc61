# SPDX-License-Identifier: Apache-2.0
"""softmax(q k^T / sqrt(K) + mask) v as products and a softmax, which every platform computes."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from model.network.context import PLAIN_CONTEXT, Context
from model.network.reshaped import reshaped


def plain_attention(
    q: Float[Array, "B T G Q K"],
    k: Float[Array, "B T G K"],
    v: Float[Array, "B T G K"],
    context: Context = PLAIN_CONTEXT,
    window: int | None = None,
) -> Float[Array, "B T G Q K"]:
    """Every position attends to itself and, in its own segment, to what came before it; to all of
    it where the context is not causal. Scores are float32.

    Long causal sequences are cut into four blocks of queries, each against its own past only: that
    is 5/8 of the products. Those of two windows and more are cut into windows.
    """
    length = q.shape[1]
    if window is not None and 2 * window <= length:
        return _windowed(q, k, v, context, window)
    n_blocks = 4 if context.is_causal and length >= 256 and length % 4 == 0 else 1
    size = length // n_blocks
    mixed = []
    for end in range(size, length + 1, size):
        first = end - size
        is_seen = _causal(size, end, window)[None] if context.is_causal else None
        if context.segments is not None:
            is_same = _is_same(context.segments[:, first:end], context.segments[:, :end])
            is_seen = is_same if is_seen is None else is_seen & is_same
        mixed.append(attend_to(q[:, first:end], k[:, :end], v[:, :end], is_seen))
    return mixed[0] if n_blocks == 1 else jnp.concatenate(mixed, axis=1)


def _windowed(
    q: Float[Array, "B T G Q K"],
    k: Float[Array, "B T G K"],
    v: Float[Array, "B T G K"],
    context: Context,
    window: int,
) -> Float[Array, "B T G Q K"]:
    """The sequence in blocks as long as the window: the first attends to itself, each later one to
    itself and the one before, all at once."""
    B, length = q.shape[:2]
    n_more = -(-length // window) - 1
    padding = (n_more + 1) * window - length

    def blocks(x: Array) -> Array:
        shape = (B * n_more, window, *x.shape[2:])
        return reshaped(x, shape, (0, None, *range(2, x.ndim)))

    def with_previous(x: Array) -> Array:
        return jnp.concatenate([blocks(x[:, :-window]), blocks(x[:, window:])], axis=1)

    q, k, v = (_padded(x, padding) for x in (q, k, v))
    is_seen, is_seen_later = (
        _causal(window, window)[None],
        _causal(window, 2 * window, window)[None],
    )
    if context.segments is not None:
        segments = _padded(context.segments, padding)
        is_seen &= _is_same(segments[:, :window], segments[:, :window])
        is_seen_later &= _is_same(blocks(segments[:, window:]), with_previous(segments))
    first = attend_to(q[:, :window], k[:, :window], v[:, :window], is_seen)
    later = attend_to(blocks(q[:, window:]), with_previous(k), with_previous(v), is_seen_later)
    later = reshaped(later, (B, n_more * window, *q.shape[2:]), (0, None, 2, 3, 4))
    return jnp.concatenate([first, later], axis=1)[:, :length]


def _padded(x: Array, n: int) -> Array:
    """With n more positions, which no other one sees."""
    return jnp.pad(x, ((0, 0), (0, n), *((0, 0),) * (x.ndim - 2)))


def _causal(n: int, past: int, window: int | None = None) -> Bool[Array, "n past"]:
    """Whether each of the last n positions of a past sees each of that."""
    is_seen = jnp.tril(jnp.ones((n, past), bool), past - n)
    return is_seen if window is None else is_seen & ~jnp.tril(is_seen, past - n - window)


def _is_same(own: Int[Array, "B n"], past: Int[Array, "B past"]) -> Bool[Array, "B n past"]:
    """Whether they are of one segment."""
    return own[:, :, None] == past[:, None]


def attend_to(
    q: Float[Array, "B n G Q K"],
    k: Float[Array, "B past G K"],
    v: Float[Array, "B past G K"],
    is_seen: Bool[Array, "#B n past"] | None,
) -> Float[Array, "B n G Q K"]:
    """The n positions attend to those that they see; None: to all.

    The Q query heads of a group are folded into the query positions: products over four axes with
    the batch axes first are what every backend has a fast kernel for.
    """
    B, n, G, Q, K = q.shape
    weights = attention_weights(q, k, is_seen).astype(v.dtype)
    mixed = jnp.einsum("bgij,bgjk->bgik", weights, v.transpose(0, 2, 1, 3))
    mixed = reshaped(mixed, (B, G, Q, n, K), (0, 1, None, None, 3))
    return mixed.transpose(0, 3, 1, 2, 4)


def attention_weights(
    q: Float[Array, "B n G Q K"],
    k: Float[Array, "B past G K"],
    is_seen: Bool[Array, "#B n past"] | None,
) -> Float[Array, "B G Q_n past"]:
    """How much each of the n positions attends to each of the past, by query head."""
    B, n, G, Q, K = q.shape
    q = (q / math.sqrt(K)).transpose(0, 2, 3, 1, 4)
    folded = reshaped(q, (B, G, Q * n, K), (0, 1, None, 4))
    k = k.transpose(0, 2, 1, 3)
    scores = jnp.einsum("bgik,bgjk->bgij", folded, k, preferred_element_type=jnp.float32)
    if is_seen is not None:
        is_seen = jnp.tile(is_seen, (1, Q, 1))[:, None]
        scores = jnp.where(is_seen, scores, jnp.finfo(jnp.float32).min)
    return jax.nn.softmax(scores, axis=-1)
