# SPDX-License-Identifier: Apache-2.0
"""The channel mix of RWKV-7 (Peng et al. 2025, arXiv:2503.14456, sec. 4.2)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from model.network.context import Context
from model.network.layers import State, project
from model.network.mixers.recurrent_layer import RecurrentLayer, before_each, begins


class RWKV7Channel(RecurrentLayer):
    """relu((x + mix (x of the position before - x)) W_up)^2 W_down."""

    mix: nnx.Param
    up_df: nnx.Param
    down_fd: nnx.Param
    up_bias: nnx.Param | None = None
    down_bias: nnx.Param | None = None

    def init_state(self, batch_size: int, length: int, dtype: DTypeLike) -> State:
        """The last input: zeros."""
        return {"last": self.zeros("btd", (batch_size, 1, self.net.d_model), dtype)}

    def read(
        self, x: Float[Array, "B T D"], state: State, context: Context
    ) -> tuple[Float[Array, "B T D"], Context, State]:
        act = self.layout.act
        change = before_each(x, state["last"], begins(context.segments)) - x
        mixed = x.astype(jnp.float32) + change.astype(jnp.float32) * self.mix[...][None, None]
        up = project("btd,df->btf", mixed.astype(x.dtype), self.up_df, self.up_bias, P(*act("btf")))
        hidden = jnp.square(jax.nn.relu(up))
        out = project("btf,fd->btd", hidden, self.down_fd, self.down_bias, P(*act("btd")))
        return out, context, {"last": x[:, -1:]}
