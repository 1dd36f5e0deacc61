# SPDX-License-Identifier: Apache-2.0
"""Mamba-2: a state space model with one decay for each head (Dao & Gu 2024, arXiv:2405.21060)."""

from typing import cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from model.network.context import Context
from model.network.counts.mamba2 import Mamba2Config
from model.network.layers import State, project, shared
from model.network.mixers.linear_recurrence import linear_recurrence
from model.network.mixers.recurrent_layer import RecurrentLayer, begins


class Mamba2(RecurrentLayer):
    """z, x, B, C, dt = u W; x, B, C = silu(their short convolutions); dt = softplus(dt + dt_bias);
    of each head

        S_t = exp(-exp(log_a) dt_t) S_{t-1} + B_t (dt_t x_t)^T,    y_t = S_t^T C_t + skip x_t;

    the output is norm(y silu(z)) W_output, with an RMSNorm over the heads of each group. Sec. 7.1
    and fig. 6 of the paper, "parallel". States and all behind the products are float32.
    """

    z_dgqp: nnx.Param
    x_dgqp: nnx.Param
    b_dgk: nnx.Param
    c_dgk: nnx.Param
    dt_dgq: nnx.Param
    log_a: nnx.Param
    dt_bias: nnx.Param
    skip: nnx.Param
    gain: nnx.Param
    output_gqpd: nnx.Param
    z_bias: nnx.Param | None = None
    output_bias: nnx.Param | None = None

    def init_state(self, batch_size: int, length: int, dtype: DTypeLike) -> State:
        """Zeros: the states [B, G, Q, K, P], and inputs of x, B and C that taps reach back to."""
        sizes = cast(Mamba2Config, self.config)
        G, Q, K, V = sizes.n_groups, sizes.heads_per_group, sizes.d_state, sizes.d_head
        past = (batch_size, sizes.taps - 1)
        return {
            "heads": self.zeros("bgqkp", (batch_size, G, Q, K, V), jnp.float32),
            "x": self.zeros("btgqp", (*past, G, Q, V), dtype),
            "b": self.zeros("btgk", (*past, G, K), dtype),
            "c": self.zeros("btgk", (*past, G, K), dtype),
        }

    def read(
        self, x: Float[Array, "B T D"], state: State, context: Context
    ) -> tuple[Float[Array, "B T D"], Context, State]:
        act, after = self.layout.act, {}
        u = shared(x, self.layout)
        dt = project("btd,dgq->btgq", u, self.dt_dgq, None, P(*act("btgq")))
        dt = jax.nn.softplus(dt.astype(jnp.float32) + self.dt_bias[...][None, None])[..., None]
        z = project("btd,dgqp->btgqp", u, self.z_dgqp, self.z_bias, P(*act("btgqp")))
        heads, after["x"] = self.convolved("x", u, state["x"], context.segments)
        b, after["b"] = self.convolved("b", u, state["b"], context.segments)
        c, after["c"] = self.convolved("c", u, state["c"], context.segments)
        y, after["heads"] = linear_recurrence(
            c[..., None, :],
            -jnp.exp(self.log_a[...])[None, None, ..., None] * dt,
            b[..., None, :],
            dt * heads,
            state["heads"],
            is_first=begins(context.segments),
        )
        y = y + self.skip[...][None, None, ..., None] * heads
        y = y * jax.nn.silu(z.astype(jnp.float32))
        scale = jax.lax.rsqrt(jnp.mean(y * y, axis=(-2, -1), keepdims=True) + self.net.norm_eps)
        y = (y * scale * self.gain[...][None, None]).astype(x.dtype)
        out = P(*act("btd"))
        y = project("btgqp,gqpd->btd", y, self.output_gqpd, self.output_bias, out)
        return y, context, after
