# SPDX-License-Identifier: Apache-2.0
"""Gated DeltaNet: the delta rule with a decay (Yang et al. 2024, arXiv:2412.06464)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from model.network.layers import project
from model.network.mixers.delta_net import DeltaNet


class GatedDeltaNet(DeltaNet):
    """As DeltaNet, but the state that is read and erased has decayed by w_t, with Mamba-2's

        w_t = exp(-exp(log_a) softplus(x W_dt + dt_bias)),

    and the output is (norm(o) silu(x W_gate)) W_output. Eq. 10 and sec. 3.4 of the paper.
    """

    gate_dgqp: nnx.Param
    dt_dgq: nnx.Param
    log_a: nnx.Param
    dt_bias: nnx.Param
    gate_bias: nnx.Param | None = None

    def log_decay(self, x: Float[Array, "B T D"]) -> Float[Array, "B T G Q 1"]:
        dt = project("btd,dgq->btgq", x, self.dt_dgq, None, P(*self.layout.act("btgq")))
        dt = jax.nn.softplus(dt.astype(jnp.float32) + self.dt_bias[...][None, None])
        return (-jnp.exp(self.log_a[...])[None, None] * dt)[..., None]

    def gated(
        self, x: Float[Array, "B T D"], y: Float[Array, "B T G Q P"]
    ) -> Float[Array, "B T G Q P"]:
        out = P(*self.layout.act("btgqp"))
        gate = project("btd,dgqp->btgqp", x, self.gate_dgqp, self.gate_bias, out)
        return y * jax.nn.silu(gate.astype(jnp.float32))
