# SPDX-License-Identifier: Apache-2.0
"""One mixer alone, with random numbers in all of its arrays, and slopes without derivatives."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from small_networks import LLAMA

from model.network.context import PLAIN_CONTEXT, Context
from model.network.counts.layer import LayerConfig
from model.network.execution import PLAIN
from model.network.layers import Layer
from model.network.mixers.rwkv7 import HAS_VALUE, VALUE
from model.network.sharding import FSDP_TENSOR
from model.network.stack import implementation

Arrays = dict[str, np.ndarray]


def stream(x: np.ndarray, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """What a layer is given in a network: laid out as the stream is."""
    return jax.device_put(jnp.asarray(x, dtype), P(*FSDP_TENSOR.act("btd")))


def lone_layer(
    sizes: LayerConfig, *, use_bias: bool = True, scale: float = 0.2
) -> tuple[Layer, Arrays]:
    """(the layer, its arrays by name, float64), in a network of width 16."""
    net = replace(LLAMA, use_bias=use_bias)
    layer = nnx.eval_shape(
        lambda: implementation(sizes)(
            sizes, net, execution=PLAIN, layout=FSDP_TENSOR, rngs=nnx.Rngs(params=0)
        )
    )
    rng, arrays = np.random.default_rng(1), {}
    for name, weight in sizes.weights(net).items():
        arrays[name] = rng.normal(scale=scale, size=weight.shape)
        fill(getattr(layer, name), arrays[name])
    return layer, arrays


def fill(param: nnx.Param, value: np.ndarray) -> None:
    """Puts float32 numbers where the parameter lies, which may be a shape so far."""
    param.set_value(jax.device_put(np.float32(value), param.get_value().sharding.spec))


def behind(first_value: np.ndarray) -> Context:
    """What a layer hears behind an RWKV-7 that had this value, [B, T, G, K]."""
    value = jax.device_put(first_value, P(*FSDP_TENSOR.act("btgk")))
    return PLAIN_CONTEXT._replace(shared={VALUE: value, HAS_VALUE: jnp.bool_(True)})


def output_and_gradients(
    layer: Layer, x: np.ndarray, context: Context = PLAIN_CONTEXT
) -> tuple[np.ndarray, Arrays]:
    """(its output, gradients of sum(sin(output)) / positions by name, x among them)."""
    graphdef, params = nnx.split(layer)

    def total(params: nnx.State, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        out = nnx.merge(graphdef, params)(x, context)[0]
        return jnp.mean(jnp.sum(jnp.sin(out), -1)), out

    both = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))
    (_, out), (by_params, by_x) = both(params, stream(x))
    by_name = {str(path[0]): np.asarray(g[...]) for path, g in nnx.to_flat_state(by_params)}
    return np.asarray(out), by_name | {"x": np.asarray(by_x)}


def slopes_along(function: Callable[[Arrays], np.ndarray], at: Arrays, ways: Arrays) -> Arrays:
    """Of sum(function), along a direction of each array: central differences in float64."""
    step, slopes = 1e-5, {}
    for name, way in ways.items():
        ends = [at | {name: at[name] + sign * step * way} for sign in (1, -1)]
        high, low = (np.sum(function(end)) for end in ends)
        slopes[name] = (high - low) / (2 * step)
    return slopes


def check_against_loop(
    sizes: LayerConfig,
    by_loop: Callable[[np.ndarray, Arrays, np.ndarray], np.ndarray],
    x: np.ndarray,
    segments: np.ndarray | None,
) -> None:
    """Outputs and slopes of the layer are those of a loop over (x, arrays, segments) in NumPy."""
    layer, arrays = lone_layer(sizes)
    graphdef, params = nnx.split(layer)
    context = Context(segments=None if segments is None else jnp.asarray(segments))
    told = np.zeros(x.shape[:2]) if segments is None else segments

    def output(params: nnx.State, x: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, params)(x, context)[0]

    expected = by_loop(x, arrays, told)
    np.testing.assert_allclose(jax.jit(output)(params, stream(x)), expected, rtol=0, atol=1e-5)

    # The slopes of sum(sin(output)), along one direction of every array, of length one.
    rng = np.random.default_rng(2)
    at = arrays | {"x": x}
    ways = {name: rng.normal(size=v.shape) / np.sqrt(v.size) for name, v in at.items()}
    total = lambda params, x: jnp.sum(jnp.sin(output(params, x)))  # noqa: E731
    by_params, by_x = jax.jit(jax.grad(total, (0, 1)))(params, stream(x))
    found = {name: by_params[name][...] for name in arrays} | {"x": by_x}
    slopes = slopes_along(lambda at: np.sin(by_loop(at["x"], at, told)), at, ways)
    for name, slope in slopes.items():
        assert np.sum(np.asarray(found[name]) * ways[name]) == pytest.approx(slope, abs=1e-5), name
