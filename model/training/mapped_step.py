# SPDX-License-Identifier: Apache-2.0
"""The functions of model/training/step.py for every run of a pack: mapped over a leading axis."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, Key, Shaped

from model.training.optimizers.optimizer import Hyper
from model.training.step import (
    ByWindow,
    Computation,
    TrainState,
    evaluate,
    init_moments,
    init_state,
    train_chunk,
)


def abstract_state(
    this: Computation, n_runs: int, hyper: Mapping[str, Array | jax.ShapeDtypeStruct]
) -> TrainState:
    """The state of all runs, as shapes; what lies nowhere yet lies everywhere."""
    with jax.set_mesh(this.mesh):
        moments = jax.eval_shape(functools.partial(init_moments, this), this.abstract_params, hyper)
    step = jax.eval_shape(lambda: jnp.zeros((), jnp.int32))
    lead = lead_axes(n_runs)

    def placed(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        dims = leaf.sharding.spec if leaf.sharding else P()
        sharding = NamedSharding(this.mesh, P(*lead, *dims))
        shape = (n_runs,) * len(lead) + leaf.shape
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(placed, TrainState(this.abstract_params, moments, step))


def init_runs(this: Computation, keys: Sequence[Key[Array, ""]], hyper: Hyper) -> TrainState:
    """Each run begins as it would alone. One at a time on the devices: the pack fills them."""
    alone = {name: x[0] for name, x in hyper.items()}
    runs = [jax.tree.map(_parts, init_state(this, key, alone)) for key in keys]
    return jax.tree.map(_stacked, abstract_state(this, len(keys), alone), *runs)


def train_runs(
    this: Computation,
    state: TrainState,
    hyper: Hyper,
    batches: Mapping[str, Shaped[Array, "R S B ..."]],
    first: Int[Array, ""],
    end: Int[Array, ""],
) -> tuple[TrainState, dict[str, Float[Array, "R S"]]]:
    hyper = {name: jax.sharding.reshard(x, P("run")) for name, x in hyper.items()}
    return _mapped(this, train_chunk, (state, hyper, batches), (first, end))


def evaluate_runs(
    this: Computation,
    params: nnx.State,
    batches: Mapping[str, Shaped[Array, "R n_batches B ..."]],
    n: Int[Array, ""],
) -> ByWindow:
    return _mapped(this, evaluate, (params, batches), (n,))


def _mapped(this: Computation, function: Callable, own: tuple, shared: tuple) -> Any:
    """The function of one run, of every run of a pack; what they share has no axis of runs."""
    axes = (0,) * len(own) + (None,) * len(shared)
    mapped = jax.vmap(functools.partial(function, this), in_axes=axes)
    if any(layer.is_local(this.execution) for layer in this.config.every_layer):
        # A kernel, which XLA cannot split, would be given all runs on all devices: where the axis
        # "run" is manual, each of its parts knows its own runs only.
        mapped = jax.shard_map(
            mapped,
            in_specs=(P("run"),) * len(own) + (P(),) * len(shared),
            out_specs=P("run"),
            axis_names={"run"},
            check_vma=False,  # See attention_kernels.py.
        )
    return mapped(*own, *shared)


def lead_axes(n_runs: int) -> tuple[str, ...]:
    """The mesh axis of a pack's leading axis; none for one run."""
    return ("run",) if n_runs > 1 else ()


def _parts(array: Shaped[Array, "..."]) -> dict[str, np.ndarray]:
    """The parts of an array that this process has, each once, on the host, by their place."""
    shards = {str(shard.index): shard for shard in array.addressable_shards}
    return {place: np.asarray(shard.data) for place, shard in shards.items()}


def _stacked(like: jax.ShapeDtypeStruct, *runs: dict[str, np.ndarray]) -> jax.Array:
    """One array of the parts of the single runs, each device with its own."""

    def part(index: Any) -> np.ndarray:
        return np.stack([run[str(index[1:])] for run in runs[index[0]]])

    return jax.make_array_from_callback(like.shape, like.sharding, part)
