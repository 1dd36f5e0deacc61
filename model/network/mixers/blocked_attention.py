# SPDX-License-Identifier: Apache-2.0
"""softmax(q k^T / sqrt(K) + mask) v, a block of scores at a time (Dao et al. 2022,
arXiv:2205.14135, algorithms 1 and 4): the T x T scores are never stored, and blocks that nothing is
seen of are left out. On CPUs, whose caches hold a block.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from model.network.context import PLAIN_CONTEXT, Context
from model.network.reshaped import reshaped

UNSEEN = float(jnp.finfo(jnp.float32).min)
# Positions of a block, the first of which there are so many in the sequence.
BLOCKS = (128, 64)
MIN_BLOCKS = 4


class Seen(NamedTuple):
    """What a position sees: of so many positions in blocks of so many."""

    length: int
    block: int
    is_causal: bool
    window: int | None

    @property
    def pairs(self) -> Int[np.ndarray, "pairs 2"]:
        """Blocks of queries and of keys which they see any of, row by row."""
        own, past = np.indices((self.length // self.block,) * 2)
        is_seen = (past <= own) | (not self.is_causal)
        if self.window is not None:
            is_seen &= (own - past) * self.block < self.window + self.block - 1
        return np.argwhere(is_seen).astype(np.int32)

    def scores(
        self,
        q: Float[Array, "B G Qn K"],
        k: Float[Array, "B G n K"],
        segments: tuple[Int[Array, "B n"], Int[Array, "B n"]] | None,
        at: tuple[Int[Array, ""], Int[Array, ""]],
    ) -> Float[Array, "B G Qn n"]:
        """Of the queries of block at[0] and the keys of block at[1], float32."""
        scores = jnp.einsum("bgik,bgjk->bgij", q, k, preferred_element_type=jnp.float32)
        own, past = (block * self.block + jnp.arange(self.block) for block in at)
        behind = (own[:, None] - past[None])[None]
        is_seen = behind >= (0 if self.is_causal else -self.length)
        if self.window is not None:
            is_seen &= behind < self.window
        if segments is not None:
            is_seen &= segments[0][:, :, None] == segments[1][:, None]
        is_seen = jnp.tile(is_seen, (1, q.shape[2] // self.block, 1))[:, None]
        return jnp.where(is_seen, scores, UNSEEN)


def block_size(length: int) -> int | None:
    """Positions of a block; None: the sequence is too short, or is no whole number of them."""
    fits = (n for n in BLOCKS if length % n == 0 and length >= MIN_BLOCKS * n)
    return next(fits, None)


def blocked_attention(
    q: Float[Array, "B T G Q K"],
    k: Float[Array, "B T G K"],
    v: Float[Array, "B T G K"],
    context: Context = PLAIN_CONTEXT,
    window: int | None = None,
) -> Float[Array, "B T G Q K"]:
    """As `plain_attention`. The T positions are a whole number of blocks (`block_size`)."""
    B, T, G, Q, K = q.shape
    n = block_size(T)
    assert n is not None, f"no block divides {T} positions"
    seen = Seen(T, n, context.is_causal, window)
    # Blocks first: each is one stretch of memory.
    q = (q / math.sqrt(K)).transpose(1, 0, 2, 3, 4)
    q = reshaped(q, (T // n, n, B, G, Q, K), (None, None, 1, 2, 3, 4))
    q = reshaped(q.transpose(0, 2, 3, 4, 1, 5), (T // n, B, G, Q * n, K), (None, 1, 2, None, 5))
    k, v = (
        reshaped(x.transpose(1, 0, 2, 3), (T // n, n, B, G, K), (None, None, 1, 2, 3)).transpose(
            0, 2, 3, 1, 4
        )
        for x in (k, v)
    )
    segments = context.segments
    if segments is not None:
        segments = reshaped(segments.T, (T // n, n, B), (None, None, 1)).transpose(0, 2, 1)
    mixed = _attend(seen, q, k, v, segments)
    mixed = reshaped(mixed, (T // n, B, G, Q, n, K), (None, 1, 2, None, None, 4))
    mixed = mixed.transpose(0, 4, 1, 2, 3, 5)
    return reshaped(mixed, (T, B, G, Q, K), (None, 2, 3, 4, 5)).transpose(1, 0, 2, 3, 4)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(
    seen: Seen,
    q: Float[Array, "blocks B G Qn K"],
    k: Float[Array, "blocks B G n K"],
    v: Float[Array, "blocks B G n K"],
    segments: Int[Array, "blocks B n"] | None,
) -> Float[Array, "blocks B G Qn K"]:
    return _forward(seen, q, k, v, segments)[0]


def _forward(
    seen: Seen, q: Array, k: Array, v: Array, segments: Array | None
) -> tuple[Array, tuple[Array | None, ...]]:
    """Row by row, with the maximum and the sum of each query so far (algorithm 1)."""

    def add(carry: tuple[Array, ...], at: Array) -> tuple[tuple[Array, ...], None]:
        i, j = at
        scores = seen.scores(q[i], k[j], _both(segments, i, j), (i, j))
        most, total, mixed = (x[i] for x in carry)
        highest = jnp.maximum(most, jnp.max(scores, axis=-1))
        weights, shrink = jnp.exp(scores - highest[..., None]), jnp.exp(most - highest)
        value = jnp.einsum(
            "bgij,bgjk->bgik", weights.astype(v.dtype), v[j], preferred_element_type=jnp.float32
        )
        total = shrink * total + jnp.sum(weights, axis=-1)
        after = highest, total, shrink[..., None] * mixed + value
        return tuple(x.at[i].set(new) for x, new in zip(carry, after, strict=True)), None

    mixed = jnp.zeros_like(q, jnp.float32)
    total = jnp.zeros_like(q[..., 0], jnp.float32)
    begin: tuple[Array, ...] = total + UNSEEN, total, mixed
    (most, total, mixed), _ = lax.scan(add, begin, jnp.asarray(seen.pairs))
    mixed = (mixed / total[..., None]).astype(v.dtype)
    return mixed, (q, k, v, segments, mixed, most + jnp.log(total))


def _backward(seen: Seen, kept: tuple[Any, ...], slope: Array) -> tuple[Array | None, ...]:
    """The weights are made again from their sums (algorithm 4)."""
    q, k, v, segments, mixed, log_total = kept
    own = jnp.sum((slope * mixed).astype(jnp.float32), axis=-1)

    def add(carry: tuple[Array, ...], at: Array) -> tuple[tuple[Array, ...], None]:
        i, j = at
        dq, dk, dv = carry
        scores = seen.scores(q[i], k[j], _both(segments, i, j), (i, j))
        weights = jnp.exp(scores - log_total[i][..., None])
        of_weights = jnp.einsum(
            "bgik,bgjk->bgij", slope[i], v[j], preferred_element_type=jnp.float32
        )
        of_scores = (weights * (of_weights - own[i][..., None])).astype(q.dtype)
        weights = weights.astype(v.dtype)
        product = partial(jnp.einsum, preferred_element_type=jnp.float32)
        dq = dq.at[i].add(product("bgij,bgjk->bgik", of_scores, k[j]))
        dk = dk.at[j].add(product("bgij,bgik->bgjk", of_scores, q[i]))
        dv = dv.at[j].add(product("bgij,bgik->bgjk", weights, slope[i]))
        return (dq, dk, dv), None

    empty = tuple(jnp.zeros_like(x, jnp.float32) for x in (q, k, v))
    (dq, dk, dv), _ = lax.scan(add, empty, jnp.asarray(seen.pairs))
    return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), None


_attend.defvjp(_forward, _backward)


def _both(segments: Array | None, i: Array, j: Array) -> tuple[Array, Array] | None:
    return None if segments is None else (segments[i], segments[j])
