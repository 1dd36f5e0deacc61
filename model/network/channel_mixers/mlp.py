# SPDX-License-Identifier: Apache-2.0
"""Dense channel mixers: SwiGLU (Shazeer 2020, arXiv:2002.05202, eq. 6) and GELU."""

import jax
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from model.network.context import Context
from model.network.layers import Layer, Said, project, shared


class _MLP(Layer):
    down_fd: nnx.Param
    down_bias: nnx.Param | None = None
    up_df: nnx.Param
    up_bias: nnx.Param | None = None

    def _rise(self, x: Array, weight: nnx.Param, bias: nnx.Param | None) -> Float[Array, "B T F"]:
        return project("btd,df->btf", x, weight, bias, P(*self.layout.act("btf")))

    def _down(self, hidden: Float[Array, "B T F"]) -> Float[Array, "B T D"]:
        out = P(*self.layout.act("btd"))
        return project("btf,fd->btd", hidden, self.down_fd, self.down_bias, out)


class SwiGLU(_MLP):
    """(silu(x W_gate) * x W_up) W_down."""

    gate_df: nnx.Param
    gate_bias: nnx.Param | None = None

    def __call__(
        self, x: Float[Array, "B T D"], context: Context
    ) -> tuple[Float[Array, "B T D"], Context, Said]:
        x = shared(x, self.layout)
        gate = self._rise(x, self.gate_df, self.gate_bias)
        up = self._rise(x, self.up_df, self.up_bias)
        return self._down(jax.nn.silu(gate) * up), context, {}


class GELU(_MLP):
    """gelu(x W_up) W_down, with GPT-2's tanh form of the GELU."""

    def __call__(
        self, x: Float[Array, "B T D"], context: Context
    ) -> tuple[Float[Array, "B T D"], Context, Said]:
        up = self._rise(x, self.up_df, self.up_bias)
        return self._down(jax.nn.gelu(up, approximate=True)), context, {}
