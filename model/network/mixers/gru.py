# SPDX-License-Identifier: Apache-2.0
"""Gated recurrent units (Cho et al. 2014, arXiv:1406.1078), as torch.nn.GRU has them."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from model.network.layers import State
from model.network.mixers.gated_units import GatedUnits


class GRU(GatedUnits):
    """r, z, m = h W_recurrent and n, r', z' = x W_input, each with its bias; h' = (1 - u) tanh(n +
    sigmoid(r + r') m) + u h with u = sigmoid(z + z').

    The reset gate multiplies the product, as torch and cuDNN have it, where Cho et al. multiply h
    before it: so there is one product with the state.
    """

    holds = ("h",)

    candidate_bias: nnx.Param | None = None

    def input_gates(self, x: Float[Array, "B T D"]) -> Float[Array, "B T A H"]:
        """n, r, z, and the bias of m."""
        gates = super().input_gates(x)
        shape = (*gates.shape[:2], 1, gates.shape[3])
        out = P(*self.layout.act("btah"))
        if self.candidate_bias is None:
            bias = jnp.zeros(shape, gates.dtype, out_sharding=out)
        else:
            bias = jnp.broadcast_to(self.candidate_bias[...], shape, out_sharding=out)
        return jnp.concatenate([gates, bias], axis=2)

    def cell(self, gates: Float[Array, "B A H"], held: State) -> State:
        n, r, z, m = (gates[:, gate] for gate in range(4))
        keep = jax.nn.sigmoid(z)
        candidate = jnp.tanh(n + jax.nn.sigmoid(r) * m)
        return {"h": (1 - keep) * candidate + keep * held["h"]}
