# SPDX-License-Identifier: Apache-2.0
"""Mixture of SwiGLU experts: a softmax router, the k best of E for each token, none dropped."""

import functools
from typing import cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from model.network.channel_mixers.mlp import SwiGLU
from model.network.context import Context
from model.network.counts.moe import MoEConfig
from model.network.layers import PRODUCT, Said, project
from model.network.sharding import Dims, axis_names


class MoE(SwiGLU):
    """sum over the k of w_e (silu(x gate_e) * x up_e) down_e, plus a shared expert's.

    The shared expert is a SwiGLU under its names. Tokens stay where they are: each device computes
    its own experts for its own rows, and what the devices of "tensor" have is summed.
    """

    router_de: nnx.Param
    gate_edf: nnx.Param
    up_edf: nnx.Param
    down_efd: nnx.Param

    @property
    def sizes(self) -> MoEConfig:
        return cast(MoEConfig, self.config)

    def __call__(
        self, x: Float[Array, "B T D"], context: Context
    ) -> tuple[Float[Array, "B T D"], Context, Said]:
        shares, experts, said = self._route(x)
        out = self._experts(x, shares, experts)
        if self.sizes.d_ff_shared:
            out = out + super().__call__(x, context)[0]
        return out, context, said

    def _route(
        self, x: Float[Array, "B T D"]
    ) -> tuple[Float[Array, "B T k"], Int[Array, "B T k"], Said]:
        """Weights of the chosen, float32; which they are; the losses of this layer."""
        out = P(*self.layout.act("bt"), None)
        logits = project("btd,de->bte", x.astype(jnp.float32), self.router_de, None, out)
        probabilities = jax.nn.softmax(logits, axis=-1)
        shares, experts = jax.lax.top_k(probabilities, self.sizes.n_active)
        if self.sizes.is_renormalized:
            shares = shares / jnp.sum(shares, axis=-1, keepdims=True)
        is_chosen = jnp.sum(jax.nn.one_hot(experts, self.sizes.n_experts), axis=2)
        load, mean = (jnp.mean(each, axis=(0, 1)) for each in (is_chosen, probabilities))
        log_z = jax.nn.logsumexp(logits, axis=-1)
        balance = self.sizes.n_experts * jnp.sum(load * mean)
        return shares, experts, {"balance": balance, "router_z": jnp.mean(log_z * log_z)}

    def _experts(
        self,
        x: Float[Array, "B T D"],
        shares: Float[Array, "B T k"],
        experts: Int[Array, "B T k"],
    ) -> Float[Array, "B T D"]:
        layout, table = self.layout, self.config.weights(self.net)
        names = ("gate_edf", "up_edf", "down_efd")
        dims = [layout.weight(table[name]) for name in names]
        specs = *(P(*layout.act("btd")),) * 3, *(P(*each) for each in dims)
        arrays = x, shares, experts, *(getattr(self, name)[...] for name in names)
        local = functools.partial(_own_experts, dims=dims, over=tuple(layout.position_axes))
        mapped = jax.shard_map(local, in_specs=specs, out_specs=specs[0])
        return mapped(*map(jax.sharding.reshard, arrays, specs))


def _own_experts(
    x: Float[Array, "b t D"],
    shares: Float[Array, "b t k"],
    experts: Int[Array, "b t k"],
    gate: Float[Array, "e d F"],
    up: Float[Array, "e d F"],
    down: Float[Array, "e F d"],
    *,
    dims: list[Dims],
    over: tuple[str, ...],
) -> Float[Array, "b t D"]:
    """What the experts of this device, and then of all, give to its rows.

    Rows are put into the order of their experts, so that each expert's lie together.

    Args:
      dims: mesh axes that split the dimensions of the weights.
      over: mesh axes that split the rows.
    """
    (*lead, width), k, n_own = x.shape, shares.shape[-1], len(gate)
    axes = axis_names(dims[0][0])
    x = jax.lax.pcast(x, axes, to="varying")
    own = experts.reshape(-1) - (n_own * jax.lax.axis_index(axes) if axes else 0)
    own = jnp.where((own >= 0) & (own < n_own), own, n_own)  # Those of other devices come last.
    order = jnp.argsort(own)
    group_sizes = jnp.sum(own[:, None] == jnp.arange(n_own)[None], axis=0, dtype=jnp.int32)

    def product(x: Array, weight: Array, dims: Dims) -> Array:
        y = _grouped_product(dims, over, x, weight, group_sizes)
        return checkpoint_name(y, PRODUCT)

    repeated = jnp.broadcast_to(x.reshape(-1, 1, width), (len(own) // k, k, width))
    rows = _permuted(repeated.reshape(-1, width), order)
    hidden = jax.nn.silu(product(rows, gate, dims[0])) * product(rows, up, dims[1])
    y = _permuted(product(hidden, down, dims[2]), jnp.argsort(order))
    # Of rows in no group a kernel may leave anything.
    y = jnp.where(own[:, None] < n_own, y.astype(jnp.float32) * shares.reshape(-1, 1), 0.0)
    out = jnp.sum(y.reshape(-1, k, width), axis=1).astype(x.dtype)
    return jax.lax.psum(out, axes).reshape(*lead, width)


def _permuted(rows: Float[Array, "n width"], order: Int[Array, " n"]) -> Float[Array, "n width"]:
    """Its derivative is a permutation too, and no sum in an order of its own."""
    return rows.at[order].get(unique_indices=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _grouped_product(
    dims: Dims, over: tuple[str, ...], x: Array, weight: Array, group_sizes: Array
) -> Array:
    """[n, i] times [e, i, o]: the first ``group_sizes[0]`` rows by the first matrix, and so on.

    As layers._product: in the dtype of ``x``; the gradient of the weight is float32, within a
    device and where it is reduced over many.
    """
    return jax.lax.ragged_dot(x, _gathered(weight, dims, x.dtype), group_sizes)


def _grouped_forward(dims: Dims, over: tuple, x: Array, weight: Array, group_sizes: Array) -> tuple:
    return _grouped_product(dims, over, x, weight, group_sizes), (x, weight, group_sizes)


def _grouped_backward(dims: Dims, over: tuple, saved: tuple, slope: Array) -> tuple:
    x, weight, group_sizes = saved
    turned = _gathered(weight, dims, x.dtype).swapaxes(1, 2)
    x_slope = jax.lax.ragged_dot(slope, turned, group_sizes)
    weight_slope = jax.lax.ragged_dot_general(
        x, slope, group_sizes, _BY_ROWS, preferred_element_type=weight.dtype
    )
    split: set[str] = set()
    for axis, names in enumerate(map(axis_names, dims)):
        if axis and names:
            weight_slope = jax.lax.psum_scatter(
                weight_slope, names, scatter_dimension=axis, tiled=True
            )
        split |= {*names}
    whole = tuple(axis for axis in over if axis not in split)
    return x_slope, jax.lax.psum(weight_slope, whole), None


_grouped_product.defvjp(_grouped_forward, _grouped_backward)
# [n, i] times [n, o]: one matrix [i, o] of each group of rows.
_BY_ROWS = jax.lax.RaggedDotDimensionNumbers(
    dot_dimension_numbers=(((0,), (0,)), ((), ())),
    lhs_ragged_dimensions=(0,),
    rhs_group_dimensions=(),
)


def _gathered(weight: Array, dims: Dims, dtype: DTypeLike) -> Array:
    """The matrices of the experts of this device, each whole."""
    whole = weight.astype(dtype)
    for axis, names in enumerate(map(axis_names, dims)):
        if axis and names:
            whole = jax.lax.all_gather(whole, names, axis=axis, tiled=True)
    return whole
