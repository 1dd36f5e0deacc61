# SPDX-License-Identifier: Apache-2.0
"""Causal softmax attention with grouped queries."""

import math

import jax
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from model.network.config import ModelConfig
from model.network.layers import RMSNorm, constant, normal, project, rotate, shared
from model.network.mixers.attention_kernels import attention_kernel
from model.network.sharding import Layout


class Attention(nnx.Module):
    """softmax(q k^T / sqrt(K) + causal mask) v, then the output projection.

    Vaswani et al. 2017 (arXiv:1706.03762), eq. 1; each of G key/value heads serves Q query heads
    (Ainslie et al. 2023). Query weights are stored as [D, G, Q, K], so that no split dimension is
    ever reshaped. ``kernel`` names what computes the softmax (attention_kernels.py).
    """

    def __init__(self, config: ModelConfig, layout: Layout, *, kernel: str, rngs: nnx.Rngs):
        D, G, K = config.d_model, config.n_kv_heads, config.d_head
        Q = config.queries_per_kv_head
        std = config.hidden_init_gain / math.sqrt(D)
        std_out = config.hidden_init_gain / math.sqrt(config.n_heads * K)
        self.q_dgqk = normal(rngs, (D, G, Q, K), std, layout.attn_q_dgqk, "hidden")
        self.k_dgk = normal(rngs, (D, G, K), std, layout.attn_kv_dgk, "hidden")
        self.v_dgk = normal(rngs, (D, G, K), std, layout.attn_kv_dgk, "hidden")
        self.o_gqkd = normal(rngs, (G, Q, K, D), std_out, layout.attn_o_gqkd, "hidden", n_in=3)
        bias, eps = config.use_bias, config.norm_eps
        self.q_bias = constant((G, Q, K), 0.0, layout.attn_q_bias_gqk) if bias else None
        self.k_bias = constant((G, K), 0.0, layout.attn_kv_bias_gk) if bias else None
        self.v_bias = constant((G, K), 0.0, layout.attn_kv_bias_gk) if bias else None
        self.o_bias = constant((D,), 0.0, layout.vector_d) if bias else None
        self.q_norm = RMSNorm(K, layout.vector_k, eps=eps) if config.use_qk_norm else None
        self.k_norm = RMSNorm(K, layout.vector_k, eps=eps) if config.use_qk_norm else None
        self.rope_theta = config.rope_theta if config.positions == "rope" else None
        self.attend = attention_kernel(kernel)
        self.layout = layout

    def __call__(self, x: Float[Array, "B T D"]) -> tuple[Float[Array, "B T D"], dict]:
        layout, x = self.layout, shared(x, self.layout)
        q = project("btd,dgqk->btgqk", x, self.q_dgqk, self.q_bias, P(*layout.act_btgqk))
        k = project("btd,dgk->btgk", x, self.k_dgk, self.k_bias, P(*layout.act_btgk))
        v = project("btd,dgk->btgk", x, self.v_dgk, self.v_bias, P(*layout.act_btgk))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rope_theta is not None:
            q, k = rotate(q, self.rope_theta), rotate(k, self.rope_theta)
        # Where positions are split they are exchanged for heads, and back.
        inside = P(*layout.inside_btgqk), P(*layout.inside_btgk), P(*layout.inside_btgk)
        mixed = self.attend(*map(jax.sharding.reshard, (q, k, v), inside))
        mixed = jax.sharding.reshard(mixed, P(*layout.act_btgqk))
        out = project("btgqk,gqkd->btd", mixed, self.o_gqkd, self.o_bias, P(*layout.act_btd))
        return out, {}
