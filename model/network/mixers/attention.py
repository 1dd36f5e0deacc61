# SPDX-License-Identifier: Apache-2.0
"""Causal softmax attention with grouped queries."""

from typing import cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from model.network.context import Context, require_causal
from model.network.counts.attention import AttentionConfig
from model.network.layers import Layer, Said, State, project, rms_norm, shared
from model.network.mixers.attention_kernels import attention_kernel
from model.network.mixers.plain_attention import attend_to
from model.network.positions import rotate


class Attention(Layer):
    """softmax(q k^T / sqrt(K) + causal mask) v, then the output projection.

    Vaswani et al. 2017 (arXiv:1706.03762), eq. 1; each of G key/value heads serves Q query heads
    (Ainslie et al. 2023). Query weights are stored as [D, G, Q, K], so that no split dimension is
    ever reshaped. What computes the softmax: attention_kernels.py.
    """

    q_dgqk: nnx.Param
    k_dgk: nnx.Param
    v_dgk: nnx.Param
    o_gqkd: nnx.Param
    q_bias: nnx.Param | None = None
    k_bias: nnx.Param | None = None
    v_bias: nnx.Param | None = None
    o_bias: nnx.Param | None = None
    q_gain: nnx.Param | None = None
    k_gain: nnx.Param | None = None

    @property
    def sizes(self) -> AttentionConfig:
        return cast(AttentionConfig, self.config)

    def __call__(
        self, x: Float[Array, "B T D"], context: Context
    ) -> tuple[Float[Array, "B T D"], Context, Said]:
        layout, window = self.layout, self.sizes.window
        if window is not None:
            require_causal(context, f"attention with window={window}")
        q, k, v = self._heads(x, context.positions)
        # Where positions are split they are exchanged for heads, and back.
        inside = (P(*layout.whole(letters)) for letters in ("btgqk", "btgk", "btgk"))
        q, k, v = map(jax.sharding.reshard, (q, k, v), inside)
        attend = attention_kernel(self.execution.attention)
        mixed = attend(q, k, v, context, window)
        return self._output(jax.sharding.reshard(mixed, P(*layout.act("btgqk")))), context, {}

    def _heads(
        self, x: Float[Array, "B T D"], positions: Int[Array, "#B T"] | None
    ) -> tuple[Float[Array, "B T G Q K"], Float[Array, "B T G K"], Float[Array, "B T G K"]]:
        """Queries, keys and values."""
        act, x = self.layout.act, shared(x, self.layout)
        q = project("btd,dgqk->btgqk", x, self.q_dgqk, self.q_bias, P(*act("btgqk")))
        k = project("btd,dgk->btgk", x, self.k_dgk, self.k_bias, P(*act("btgk")))
        v = project("btd,dgk->btgk", x, self.v_dgk, self.v_bias, P(*act("btgk")))
        if self.q_gain is not None and self.k_gain is not None:
            eps = self.net.norm_eps
            q, k = rms_norm(q, self.q_gain, eps), rms_norm(k, self.k_gain, eps)
        if (theta := self.sizes.rope_theta) is not None:
            length = self.net.seq_len
            q, k = (rotate(each, theta, positions, length) for each in (q, k))
        return q, k, v

    def _output(self, mixed: Float[Array, "B T G Q K"]) -> Float[Array, "B T D"]:
        out = P(*self.layout.act("btd"))
        return project("btgqk,gqkd->btd", mixed, self.o_gqkd, self.o_bias, out)

    def init_state(self, batch_size: int, length: int, dtype: DTypeLike) -> State:
        """Keys and values of every position, or of the last window, [B, length, G, K] each."""
        length = min(length, self.sizes.window or length)
        shape = (batch_size, length, self.sizes.n_kv_heads, self.sizes.d_head)
        dims = P(*self.layout.act("btgk"))
        return {name: jnp.zeros(shape, dtype, out_sharding=dims) for name in ("keys", "values")}

    def step(
        self, x: Float[Array, "B n D"], state: State, context: Context
    ) -> tuple[Float[Array, "B n D"], Context, State]:
        positions = context.positions
        assert positions is not None, "a step is told where it is"
        q, k, v = self._heads(x, positions)
        if (window := self.sizes.window) is not None:
            out, state = self._windowed_step(q, k, v, state, positions[0], window)
            return out, context, state
        at = (0, positions[0, 0], 0, 0)
        keys = jax.lax.dynamic_update_slice(state["keys"], k, at)
        values = jax.lax.dynamic_update_slice(state["values"], v, at)
        is_seen = jnp.arange(keys.shape[1])[None] <= positions[0][:, None]
        mixed = attend_to(q, keys, values, is_seen[None])
        return self._output(mixed), context, {"keys": keys, "values": values}

    def _windowed_step(
        self,
        q: Float[Array, "B n G Q K"],
        k: Float[Array, "B n G K"],
        v: Float[Array, "B n G K"],
        state: State,
        positions: Int[Array, " n"],
        window: int,
    ) -> tuple[Float[Array, "B n D"], State]:
        """The state holds what came last, the latest at its end."""
        size = state["keys"].shape[1]
        keys, values = (
            jnp.concatenate([state[name], new], axis=1)
            for name, new in (("keys", k), ("values", v))
        )
        at = positions[0] - size + jnp.arange(keys.shape[1])[None]
        own = positions[:, None]
        is_seen = (at >= 0) & (at <= own) & (at > own - window)
        mixed = attend_to(q, keys, values, is_seen[None])
        first = keys.shape[1] - size
        return self._output(mixed), {"keys": keys[:, first:], "values": values[:, first:]}
