# SPDX-License-Identifier: Apache-2.0
"""DeltaNet: linear attention by the delta rule (Yang et al. 2024, arXiv:2406.06484)."""

from typing import cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from model.network.context import Context
from model.network.counts.delta_net import DeltaNetConfig
from model.network.layers import State, project, rms_norm, shared
from model.network.mixers.linear_recurrence import linear_recurrence
from model.network.mixers.recurrent_layer import RecurrentLayer, begins

# Added to |x|^2, as in the reference code of both papers.
EPS = 1e-6


class DeltaNet(RecurrentLayer):
    """q, k, v = silu(short convolutions of x W); q and k of length one; beta = sigmoid(x W_beta);

        S_t = S_{t-1} + k_t (beta_t (v_t - S_{t-1}^T k_t))^T,    o_t = S_t^T q_t / sqrt(K)

    of each head; the output is norm(o) W_output, with an RMSNorm over each head. States and all
    behind the products are float32.
    """

    q_dgk: nnx.Param
    k_dgk: nnx.Param
    v_dgqp: nnx.Param
    beta_dgq: nnx.Param
    gain: nnx.Param
    output_gqpd: nnx.Param
    beta_bias: nnx.Param | None = None
    output_bias: nnx.Param | None = None

    def init_state(self, batch_size: int, length: int, dtype: DTypeLike) -> State:
        """Zeros: the states [B, G, Q, K, P], and inputs of q, k and v that taps reach back to."""
        sizes = cast(DeltaNetConfig, self.config)
        G, Q, K, V = sizes.n_key_heads, sizes.heads_per_key, sizes.d_key, sizes.d_value
        past = (batch_size, sizes.taps - 1)
        return {
            "heads": self.zeros("bgqkp", (batch_size, G, Q, K, V), jnp.float32),
            "q": self.zeros("btgk", (*past, G, K), dtype),
            "k": self.zeros("btgk", (*past, G, K), dtype),
            "v": self.zeros("btgqp", (*past, G, Q, V), dtype),
        }

    def read(
        self, x: Float[Array, "B T D"], state: State, context: Context
    ) -> tuple[Float[Array, "B T D"], Context, State]:
        act, u, after = self.layout.act, shared(x, self.layout), {}
        q, after["q"] = self.convolved("q", u, state["q"], context.segments)
        k, after["k"] = self.convolved("k", u, state["k"], context.segments)
        v, after["v"] = self.convolved("v", u, state["v"], context.segments)
        q, k = (_unit(each)[..., None, :] for each in (q, k))
        beta = project("btd,dgq->btgq", u, self.beta_dgq, self.beta_bias, P(*act("btgq")))
        beta = jax.nn.sigmoid(beta.astype(jnp.float32))[..., None]
        log_w = self.log_decay(u)
        o, after["heads"] = linear_recurrence(
            q / q.shape[-1] ** 0.5,
            log_w,
            k,
            beta * v,
            state["heads"],
            a=-beta * jnp.exp(log_w) * k,
            is_first=begins(context.segments),
        )
        y = self.gated(u, rms_norm(o, self.gain, self.net.norm_eps)).astype(x.dtype)
        out = P(*act("btd"))
        y = project("btgqp,gqpd->btd", y, self.output_gqpd, self.output_bias, out)
        return y, context, after

    def log_decay(self, x: Float[Array, "B T D"]) -> Float[Array, "B T G Q 1"]:
        """Of a head's state, float32: none."""
        sizes = cast(DeltaNetConfig, self.config)
        shape = (*x.shape[:2], sizes.n_key_heads, sizes.heads_per_key, 1)
        return self.zeros("btgqp", shape, jnp.float32)

    def gated(
        self, x: Float[Array, "B T D"], y: Float[Array, "B T G Q P"]
    ) -> Float[Array, "B T G Q P"]:
        """What the output projection is given of y: all."""
        return y


def _unit(x: Float[Array, "... K"]) -> Float[Array, "... K"]:
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + EPS)
