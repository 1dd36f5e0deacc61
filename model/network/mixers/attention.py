# SPDX-License-Identifier: Apache-2.0
"""Causal softmax attention with grouped queries."""

import math

import jax
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from model.network.config import ModelConfig
from model.network.layers import RMSNorm, constant, normal, project, rotate
from model.network.mixers.attention_kernels import attention_kernel
from model.network.sharding import Layout


class Attention(nnx.Module):
    """softmax(Q K^T / sqrt(K) + causal mask) V, then the output projection.

    Vaswani et al. 2017 (arXiv:1706.03762), eq. 1; each of G key/value heads serves R query heads
    (Ainslie et al. 2023). Query weights are stored as [D, G, R, K], so that no split dimension is
    ever reshaped. ``kernel`` names what computes the softmax (attention_kernels.py).
    """

    def __init__(self, config: ModelConfig, layout: Layout, *, kernel: str, rngs: nnx.Rngs):
        D, G, K = config.d_model, config.n_kv_heads, config.d_head
        R = config.queries_per_kv_head
        std = config.hidden_init_gain / math.sqrt(D)
        std_out = config.hidden_init_gain / math.sqrt(config.n_heads * K)
        self.q_dgrk = normal(rngs, (D, G, R, K), std, layout.attn_q_dgrk, "hidden")
        self.k_dgk = normal(rngs, (D, G, K), std, layout.attn_kv_dgk, "hidden")
        self.v_dgk = normal(rngs, (D, G, K), std, layout.attn_kv_dgk, "hidden")
        self.o_grkd = normal(rngs, (G, R, K, D), std_out, layout.attn_o_grkd, "hidden", n_in=3)
        bias, eps = config.use_bias, config.norm_eps
        self.q_bias = constant((G, R, K), 0.0, layout.attn_q_bias_grk) if bias else None
        self.k_bias = constant((G, K), 0.0, layout.attn_kv_bias_gk) if bias else None
        self.v_bias = constant((G, K), 0.0, layout.attn_kv_bias_gk) if bias else None
        self.o_bias = constant((D,), 0.0, layout.vector_d) if bias else None
        self.q_norm = RMSNorm(K, layout.vector_k, eps=eps) if config.use_qk_norm else None
        self.k_norm = RMSNorm(K, layout.vector_k, eps=eps) if config.use_qk_norm else None
        self.rope_theta = config.rope_theta if config.positions == "rope" else None
        self.attend = attention_kernel(kernel)
        self.layout = layout

    def __call__(self, x: Float[Array, "B L D"]) -> tuple[Float[Array, "B L D"], dict]:
        layout = self.layout
        q = _project("bld,dgrk->blgrk", x, self.q_dgrk, self.q_bias, P(*layout.act_blgrk))
        k = _project("bld,dgk->blgk", x, self.k_dgk, self.k_bias, P(*layout.act_blgk))
        v = _project("bld,dgk->blgk", x, self.v_dgk, self.v_bias, P(*layout.act_blgk))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rope_theta is not None:
            q, k = rotate(q, self.rope_theta), rotate(k, self.rope_theta)
        # Where positions are split they are exchanged for heads, and back.
        inside = P(*layout.inside_blgrk), P(*layout.inside_blgk), P(*layout.inside_blgk)
        mixed = self.attend(*map(jax.sharding.reshard, (q, k, v), inside))
        mixed = jax.sharding.reshard(mixed, P(*layout.act_blgrk))
        out = _project("blgrk,grkd->bld", mixed, self.o_grkd, self.o_bias, P(*layout.act_bld))
        return out, {}


def _project(equation: str, x: Array, weight: nnx.Param, bias: nnx.Param | None, out: P) -> Array:
    y = project(equation, x, weight[...].astype(x.dtype), out)
    if bias is None:
        return y
    leading = (1,) * (y.ndim - bias[...].ndim)
    return y + bias[...].astype(x.dtype).reshape(leading + bias[...].shape)
