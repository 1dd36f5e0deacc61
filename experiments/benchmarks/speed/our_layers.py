# SPDX-License-Identifier: Apache-2.0
"""One process, one mixer of ours: seconds per token of a forward and backward pass, by length.

python -m experiments.benchmarks.speed.our_layers MIXER LENGTH...
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from experiments.benchmarks.speed import layers
from model.network.context import PLAIN_CONTEXT
from model.network.counts.attention import AttentionConfig
from model.network.execution import PLAIN
from model.network.mixers.attention_kernels import Where, choose_kernel
from model.network.sharding import FSDP_TENSOR, make_mesh
from model.network.stack import implementation
from model.training.compile_program import compiler_options


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mixer", choices=layers.MIXERS)
    parser.add_argument("lengths", nargs="+", type=int)
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    from experiments.machine.jax_setup import start_jax

    start_jax(layers.cores(options.cores), None, n_devices=options.cores)
    mesh = make_mesh((1, options.cores, 1, 1))
    with jax.set_mesh(mesh):
        for length in options.lengths:
            print(json.dumps(measure(options.mixer, length, mesh)), flush=True)


def measure(name: str, length: int, mesh: Mesh) -> dict[str, Any]:
    """Of a batch that the devices of the mesh split."""
    sizes, net = layers.sized(name, length)
    here = Where(platform="cpu", compute_capability="", compute_dtype="float32", n_runs=1)
    attends = isinstance(sizes, AttentionConfig)
    execution = replace(PLAIN, attention=choose_kernel(net, here) if attends else "xla")
    layer = implementation(sizes)(
        sizes, net, execution=execution, layout=FSDP_TENSOR, rngs=nnx.Rngs(params=0)
    )
    graphdef, params = nnx.split(layer)

    def total(params: nnx.State, x: jax.Array, weights: jax.Array) -> jax.Array:
        layer = nnx.merge(graphdef, params)
        context = PLAIN_CONTEXT._replace(shared=layer.shared_values(x))
        return jnp.sum(layer(x, context)[0] * weights)

    options = compiler_options(net, execution, mesh)

    def passes(params: nnx.State, x: jax.Array, weights: jax.Array) -> tuple[nnx.State, jax.Array]:
        """Several in one dispatch, as steps of a training run: memory is asked for once."""

        def one(at: tuple, _: None) -> tuple[tuple, None]:
            slopes = jax.grad(total, (0, 1))(*at, weights)
            # Each is of other numbers, or XLA would do them once.
            return jax.tree.map(lambda value, slope: value - 1e-6 * slope, at, slopes), None

        return jax.lax.scan(one, (params, x), length=layers.N_PASSES)[0]

    passes = jax.jit(passes, compiler_options=options)
    shape = (layers.batch_size(length), length, layers.D_MODEL)
    draw = np.random.default_rng(0).normal
    place = P(*FSDP_TENSOR.act("btd"))
    x, weights = (jax.device_put(draw(size=shape).astype(np.float32), place) for _ in range(2))
    seconds = []
    for _ in range(1 + layers.N_REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(passes(params, x, weights))
        seconds.append(time.perf_counter() - began)
    return {
        "seq_len": length,
        "seconds_per_token": statistics.median(seconds[1:]) / (layers.N_PASSES * shape[0] * length),
        "versions": {"jax": jax.__version__},
    }


if __name__ == "__main__":
    main()
