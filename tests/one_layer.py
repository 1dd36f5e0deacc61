# SPDX-License-Identifier: Apache-2.0
"""One mixer alone, with random numbers in all of its arrays, and slopes without derivatives."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from small_networks import LLAMA

from model.network.counts.layer import LayerConfig
from model.network.execution import PLAIN
from model.network.layers import Layer
from model.network.sharding import FSDP_TENSOR
from model.network.transformer import implementation

Arrays = dict[str, np.ndarray]


def stream(x: np.ndarray, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """What a layer is given in a network: laid out as the stream is."""
    return jax.device_put(jnp.asarray(x, dtype), P(*FSDP_TENSOR.act("btd")))


def lone_layer(sizes: LayerConfig) -> tuple[Layer, Arrays]:
    """(the layer, its arrays by name, float64), in a network of width 16 with biases."""
    net, rngs = replace(LLAMA, use_bias=True), nnx.Rngs(params=0)
    layer = implementation(sizes)(sizes, net, execution=PLAIN, layout=FSDP_TENSOR, rngs=rngs)
    rng, arrays = np.random.default_rng(1), {}
    for name, weight in sizes.weights(net).items():
        arrays[name] = rng.normal(scale=0.2, size=weight.shape)
        getattr(layer, name)[...] = jnp.asarray(arrays[name], jnp.float32)
    return layer, arrays


def slopes_along(function: Callable[[Arrays], np.ndarray], at: Arrays, ways: Arrays) -> Arrays:
    """Of sum(function), along a direction of each array: central differences in float64."""
    step, slopes = 1e-5, {}
    for name, way in ways.items():
        ends = [at | {name: at[name] + sign * step * way} for sign in (1, -1)]
        high, low = (np.sum(function(end)) for end in ends)
        slopes[name] = (high - low) / (2 * step)
    return slopes
