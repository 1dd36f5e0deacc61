# SPDX-License-Identifier: Apache-2.0
"""The embedding of an image: a linear map of its patches (ViT, Dosovitskiy et al. 2020,
arXiv:2010.11929, eq. 1)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from model.network.config import ModelConfig
from model.network.counts.total import outer_weights
from model.network.layers import parameter, project
from model.network.sharding import Layout


class PatchEmbedding(nnx.Module):
    """Patch j of an image x W + b, behind a vector for the class where one is pooled; plus learned
    positions where the configuration has them. Levels 0 to L - 1 are mapped to -1 to 1."""

    patches_cd: nnx.Param
    patches_bias: nnx.Param | None = None
    class_td: nnx.Param | None = None
    positions_td: nnx.Param | None = None

    def __init__(self, net: ModelConfig, layout: Layout, *, rngs: nnx.Rngs):
        assert net.patches is not None
        for path, weight in outer_weights(net).items():
            module, _, name = path.rpartition(".")
            if module == "embedding":
                setattr(self, name, parameter(rngs, weight, layout))
        self.config, self.layout = net.patches, layout

    def __call__(
        self, tokens: Int[Array, "B T"], dtype: DTypeLike, positions: Array | None = None
    ) -> Float[Array, "B T_own D"]:
        """Of the values of images, row by row and channels last; positions are the patches'."""
        out = P(*self.layout.act("btd"))
        x = project("btc,cd->btd", self._patches(tokens), self.patches_cd, self.patches_bias, out)
        if self.class_td is not None:
            own = jnp.broadcast_to(self._whole(self.class_td)[None], (len(x), 1, x.shape[2]))
            x = jnp.concatenate([jax.sharding.reshard(own, out), x], axis=1)
        if self.positions_td is not None:
            x = x + self._whole(self.positions_td)[None]
        return x.astype(dtype)

    def _patches(self, tokens: Int[Array, "B T"]) -> Float[Array, "B n_patches C"]:
        sizes, batch = self.config, self.layout.act("b")[0]
        n_down, n_right = sizes.height // sizes.side, sizes.width // sizes.side
        values = tokens.astype(jnp.float32) * (2 / (sizes.levels - 1)) - 1
        values = jax.sharding.reshard(values, P(batch, None))
        shape = (len(tokens), n_down, sizes.side, n_right, sizes.side, sizes.channels)
        grid = jax.lax.reshape(values, shape, out_sharding=P(batch, *(None,) * 5))
        flat = (len(tokens), n_down * n_right, sizes.side**2 * sizes.channels)
        grid = grid.transpose(0, 1, 3, 2, 4, 5)
        return jax.lax.reshape(grid, flat, out_sharding=P(batch, None, None))

    def _whole(self, param: nnx.Param) -> Float[Array, "T D"]:
        return jax.sharding.reshard(param[...], P(None, None))
