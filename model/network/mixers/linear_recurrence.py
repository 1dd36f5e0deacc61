# SPDX-License-Identifier: Apache-2.0
"""The linear recurrence of Mamba-2, DeltaNet, gated DeltaNet and RWKV-7, in chunks of positions.

Of each head, with a state S [K, P] that is zero where a document begins:

    S_t = (diag(w_t) + b_t a_t^T) S_{t-1} + k_t v_t^T,    o_t = S_t^T r_t

which is S_t = S_{t-1} (diag(w_t) + a_t b_t^T) + v_t k_t^T of Peng et al. 2025 (arXiv:2503.14456),
transposed. Let u_t = S_{t-1}^T a_t be what a position erases with. Within a chunk that
begins with S, and with g_t = w_1 ... w_t,

    u_t = S^T (g_{t-1} a_t) + sum_{i<t} (u_i b_i^T + v_i k_i^T) (g_{t-1} / g_i) a_t

is a triangular system for all u of the chunk (Yang et al. 2024, arXiv:2406.06484, sec. 3.2). What
does not need S is computed for all chunks at once; a scan over the chunks carries S, and keeps one
for each of them: none for a position.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from model.network.counts.linear_recurrence import chunk_length, power_of_two

_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def linear_recurrence(
    r: Float[Array, "B T G #Q K"],
    log_w: Float[Array, "B T G Q #K"],
    k: Float[Array, "B T G #Q K"],
    v: Float[Array, "B T G Q P"],
    state: Float[Array, "B G Q K P"],
    *,
    a: Float[Array, "B T G Q K"] | None = None,
    b: Float[Array, "B T G Q K"] | None = None,
    is_first: Bool[Array, "B T"] | None = None,
) -> tuple[Float[Array, "B T G Q P"], Float[Array, "B G Q K P"]]:
    """(o, the state after the last position), both float32, as everything within is.

    Args:
      r, k: those of the Q heads of a group may be one.
      log_w: ln w, at most 0. One number for a head may be as low as can be (where their sum over
        a chunk reaches 1e3, float32 steps by 6e-5); of K numbers, each must be above
        -88 / LONGEST_CHUNK, for then exp(-ln g) is a float32 (RWKV-7's are above
        -e^(-1/2) = -0.61).
      a: None: nothing is erased.
      b: None: it is k.
      is_first: where the state is zero before it is written; None: nowhere.
    """
    length = v.shape[1]
    size = chunk_length(length)
    r, log_w, k, v = (_chunked(x, size) for x in (r, log_w, k, v))
    sees = _sees(is_first, length, size)
    g = _running_sums(log_w, sees.is_first)
    before = jnp.pad(g[..., :-1, :], [(0, 0)] * 4 + [(1, 0), (0, 0)])
    left = _exp(g[..., -1:, :] - g, sees.end)
    given, by_state = v, None
    erasing, written = k, None
    if a is not None:
        a = _chunked(a, size)
        if b is not None:
            erasing = _chunked(b, size)
            written = _product((k * left).mT, v)
            given = _product(_pairs(a, k, before, g, sees.earlier), v)
        known = jnp.concatenate([given, a * _exp(before, sees.begin)], axis=-1)
        solved = _product(_inverse(_pairs(a, erasing, before, g, sees.earlier)), known)
        given, by_state = solved[..., : v.shape[-1]], solved[..., v.shape[-1] :]

    def chunk(state: Array, inputs: tuple) -> tuple[Array, tuple[Array, Array]]:
        kept, erasing, given, by_state, written = inputs
        u = given if by_state is None else given + _product(by_state, state)
        after = kept * state + _product(erasing.mT, u)
        return after if written is None else after + written, (state, u)

    kept = _exp(g[..., -1:, :], sees.through).mT
    inputs = (kept, erasing * left, given, by_state, written)
    each = jax.tree.map(lambda x: jnp.moveaxis(x, 3, 0), inputs)
    state, found = jax.lax.scan(chunk, state, each)
    states, u = (jnp.moveaxis(x, 0, 3) for x in found)
    o = _product(r * _exp(g, sees.begin), states)
    o = o + _product(_pairs(r, erasing, g, g, sees.past), u)
    if written is not None:
        o = o + _product(_pairs(r, k, g, g, sees.past), v)
    return _whole(o, length), state


class _Sees(NamedTuple):
    """Which of a chunk's positions are of one document, from [B, 1, 1, N, n, n or 1]; 1 for B and N
    where all are.

    Attributes:
      past, earlier: a position (first n) and one that is not after it, or before it (second n).
      begin, end: a position and what is before the chunk, or the chunk's last position.
      through: the chunk's last position and what is before the chunk.
    """

    is_first: Bool[Array, "B 1 1 N n 1"] | None
    past: Bool[Array, "#B 1 1 #N n n"]
    earlier: Bool[Array, "#B 1 1 #N n n"]
    begin: Bool[Array, "#B 1 1 #N n 1"]
    end: Bool[Array, "#B 1 1 #N n 1"]
    through: Bool[Array, "#B 1 1 #N 1 1"]


def _sees(is_first: Bool[Array, "B T"] | None, length: int, size: int) -> _Sees:
    past = jnp.tril(jnp.ones((1, 1, 1, 1, size, size), bool))
    earlier = jnp.tril(past, -1)
    if is_first is None:
        every = jnp.ones((1, 1, 1, 1, size, 1), bool)
        return _Sees(None, past, earlier, every, every, every[..., :1, :])
    first = _chunked(is_first[:, :, None, None, None], size)
    # The state before the first chunk is of document 0.
    flat = _chunked(jnp.cumsum(is_first, axis=1, dtype=jnp.int32)[:, :, None, None, None], size)
    last = jnp.max(flat, axis=-2, keepdims=True)
    ahead = jnp.pad(last[:, :, :, :-1], [(0, 0)] * 3 + [(1, 0), (0, 0), (0, 0)])
    is_same = flat == flat.mT
    return _Sees(
        first, past & is_same, earlier & is_same, flat == ahead, flat == last, last == ahead
    )


def _chunked(x: Array, size: int) -> Array:
    """[B, T, G, Q, width] -> [B, G, Q, N, n, width], filled up with zeros; float32 if it is a
    number. What a filled position writes is nothing, and its decay is none."""
    x = x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x
    x = jnp.pad(jnp.moveaxis(x, 1, 3), [(0, 0)] * 3 + [(0, -x.shape[1] % size), (0, 0)])
    batch, n_groups, n_heads, length, width = x.shape
    return _reshaped(x, (batch, n_groups, n_heads, length // size, size, width))


def _whole(x: Float[Array, "B G Q N n P"], length: int) -> Float[Array, "B T G Q P"]:
    n_positions = x.shape[3] * x.shape[4]
    x = _reshaped(x, (*x.shape[:3], n_positions, x.shape[-1]))
    return jnp.moveaxis(x[:, :, :, :length], 3, 1)


def _reshaped(x: Array, shape: tuple[int, ...]) -> Array:
    """x with another number of axes for its positions, which are not split, as the last is not."""
    at = jax.typeof(x).sharding
    spec = P(*at.spec[:3], *(None,) * (len(shape) - 3))
    return jax.lax.reshape(x, shape, out_sharding=NamedSharding(at.mesh, spec))


def _running_sums(x: Float[Array, "..."], is_first: Array | None) -> Float[Array, "..."]:
    """Over the positions of a chunk, anew at each document: a difference of sums over both would
    depend on the other in its last bits."""
    if is_first is None:
        return jnp.cumsum(x, axis=-2)

    def add(left: tuple, right: tuple) -> tuple:
        return jnp.where(right[1], right[0], left[0] + right[0]), left[1] | right[1]

    is_first = jnp.broadcast_to(is_first, x.shape, out_sharding=jax.typeof(x).sharding)
    return jax.lax.associative_scan(add, (x, is_first), axis=x.ndim - 2)[0]


def _exp(x: Float[Array, "..."], is_seen: Bool[Array, "..."]) -> Float[Array, "..."]:
    """exp(x), 0 where nothing is seen: before exp, for what would overflow has no slope."""
    return jnp.exp(jnp.where(is_seen, x, -jnp.inf))


def _pairs(
    x: Float[Array, "B G #Q N n K"],
    y: Float[Array, "B G #Q N n K"],
    g_x: Float[Array, "B G Q N n #K"],
    g_y: Float[Array, "B G Q N n #K"],
    is_seen: Bool[Array, "#B 1 1 #N n n"],
) -> Float[Array, "B G Q N n n"]:
    """sum_k x_tk y_ik exp(g_x,tk - g_y,ik) for t that see i, else 0."""
    if g_x.shape[-1] == 1:
        return _product(x, y.mT) * _exp(g_x - g_y.mT, is_seen)
    scores = _product(x * jnp.exp(g_x), (y * jnp.exp(-g_y)).mT)
    return jnp.where(is_seen, scores, 0.0)


def _inverse(lower: Float[Array, "*batch n n"]) -> Float[Array, "*batch n n"]:
    """(1 - lower)^-1 of a strictly lower triangular matrix, from those of its halves.

    Not from powers of it, which cancel each other in float32; not by LAPACK, whose threads wait for
    each other over matrices as small as these.
    """
    size = lower.shape[-1]
    if (filled := power_of_two(size)) > size:
        sides = [(0, filled - size)] * 2
        return _inverse(jnp.pad(lower, [(0, 0)] * (lower.ndim - 2) + sides))[..., :size, :size]
    if size <= 2:
        return jnp.eye(size).reshape((1,) * (lower.ndim - 2) + (size, size)) + lower
    half = size // 2
    # Side by side with the chunks, for XLA's fast products on CPUs take eight axes at most.
    halves = [lower[..., :half, :half], lower[..., half:, half:]]
    first, second = jnp.split(_inverse(jnp.concatenate(halves, axis=-3)), 2, axis=-3)
    corner = _product(_product(second, lower[..., half:, :half]), first)
    top = jnp.concatenate([first, jnp.zeros_like(corner)], axis=-1)
    return jnp.concatenate([top, jnp.concatenate([corner, second], axis=-1)], axis=-2)
