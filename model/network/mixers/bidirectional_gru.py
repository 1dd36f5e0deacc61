# SPDX-License-Identifier: Apache-2.0
"""Two GRUs, one from each end (Schuster & Paliwal 1997, doi:10.1109/78.650093)."""

from typing import cast

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from model.network.config import ModelConfig
from model.network.context import Context
from model.network.counts.gru import BidirectionalGRUConfig
from model.network.counts.layer import LayerConfig
from model.network.execution import Execution
from model.network.layers import Layer, Said
from model.network.mixers.gru import GRU
from model.network.sharding import Layout


class BidirectionalGRU(Layer):
    """The sum of what both say; as each has its output projection, that is one projection of both
    states."""

    def __init__(
        self,
        config: LayerConfig,
        net: ModelConfig,
        *,
        execution: Execution,
        layout: Layout,
        rngs: nnx.Rngs,
    ):
        self.config, self.net, self.layout = config, net, layout
        one = cast(BidirectionalGRUConfig, config).of_each_end
        self.ahead = GRU(one, net, execution=execution, layout=layout, rngs=rngs)
        self.behind = GRU(one, net, execution=execution, layout=layout, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B T D"], context: Context
    ) -> tuple[Float[Array, "B T D"], Context, Said]:
        if context.is_causal or context.segments is not None:
            raise ValueError(
                f"mixer {self.config.kind!r} sees what is behind a position, and all of a window. "
                "Put it into an encoder, or choose 'gru'."
            )
        alone = context._replace(is_causal=True)
        ahead, _, _ = self.ahead(x, alone)
        behind, _, _ = self.behind(jnp.flip(x, axis=1), alone)
        return ahead + jnp.flip(behind, axis=1), context, {}
