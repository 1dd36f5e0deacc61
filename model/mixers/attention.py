# SPDX-License-Identifier: Apache-2.0
"""Causal softmax attention with grouped queries."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from model.config import ModelConfig
from model.layers import RMSNorm, constant, normal, rotate
from model.sharding import Layout


class Attention(nnx.Module):
    """softmax(Q K^T / sqrt(K) + causal mask) V, then the output projection.

    Vaswani et al. 2017 (arXiv:1706.03762), eq. 1; each of G key/value heads serves R query heads
    (Ainslie et al. 2023). Query weights are stored as [D, G, R, K], so that no split dimension is
    ever reshaped. Scores and softmax are float32.
    """

    def __init__(self, config: ModelConfig, layout: Layout, *, rngs: nnx.Rngs):
        D, G, K = config.d_model, config.n_kv_heads, config.d_head
        R = config.queries_per_kv_head
        std = config.hidden_init_gain / math.sqrt(D)
        std_out = config.hidden_init_gain / math.sqrt(config.n_heads * K)
        self.q_dgrk = normal(rngs, (D, G, R, K), std, layout.attn_q_dgrk, "hidden")
        self.k_dgk = normal(rngs, (D, G, K), std, layout.attn_kv_dgk, "hidden")
        self.v_dgk = normal(rngs, (D, G, K), std, layout.attn_kv_dgk, "hidden")
        self.o_grkd = normal(rngs, (G, R, K, D), std_out, layout.attn_o_grkd, "hidden")
        bias, eps = config.use_bias, config.norm_eps
        self.q_bias = constant((G, R, K), 0.0, layout.attn_q_bias_grk) if bias else None
        self.k_bias = constant((G, K), 0.0, layout.attn_kv_bias_gk) if bias else None
        self.v_bias = constant((G, K), 0.0, layout.attn_kv_bias_gk) if bias else None
        self.o_bias = constant((D,), 0.0, layout.vector_d) if bias else None
        self.q_norm = RMSNorm(K, layout.vector_k, eps=eps) if config.use_qk_norm else None
        self.k_norm = RMSNorm(K, layout.vector_k, eps=eps) if config.use_qk_norm else None
        self.rope_theta = config.rope_theta if config.positions == "rope" else None
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
        mixed = causal_attention(q, k, v)
        out = _project("blgrk,grkd->bld", mixed, self.o_grkd, self.o_bias, P(*layout.act_bld))
        return out, {}


def causal_attention(
    q: Float[Array, "B L G R K"], k: Float[Array, "B L G K"], v: Float[Array, "B L G K"]
) -> Float[Array, "B L G R K"]:
    """Every position attends to itself and to what came before it.

    The R query heads of a group are folded into the query positions: products over four axes with
    the batch axes first are what every backend has a fast kernel for (six times faster on a CPU
    than the same products over five).
    """
    B, L, G, R, K = q.shape
    folded = (q / math.sqrt(K)).transpose(0, 2, 3, 1, 4).reshape(B, G, R * L, K)
    k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
    scores = jnp.einsum("bglk,bgmk->bglm", folded, k, preferred_element_type=jnp.float32)
    past = jnp.tile(jnp.tril(jnp.ones((L, L), bool)), (R, 1))[None, None]
    scores = jnp.where(past, scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    mixed = jnp.einsum("bglm,bgmk->bglk", weights, v)
    return mixed.reshape(B, G, R, L, K).transpose(0, 3, 1, 2, 4)


def _project(equation: str, x: Array, weight: nnx.Param, bias: nnx.Param | None, out: P) -> Array:
    y = jnp.einsum(equation, x, weight[...].astype(x.dtype), out_sharding=out)
    if bias is None:
        return y
    leading = (1,) * (y.ndim - bias[...].ndim)
    return y + bias[...].astype(x.dtype).reshape(leading + bias[...].shape)
