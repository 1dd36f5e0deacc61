# SPDX-License-Identifier: Apache-2.0
"""What is compiled of training: the initial state, a chunk of steps, an evaluation.

Pure functions of one run. What is fixed when they are compiled is in a Computation, their first
argument; what may differ between runs that share a program is traced.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, Key, Shaped

from model.network.config import ModelConfig
from model.network.execution import Execution
from model.network.sharding import BATCH
from model.network.transformer import Transformer
from model.training import memory
from model.training.by_context import context_bins
from model.training.config import Algorithm
from model.training.objectives.objective import Batch, Objective, objective
from model.training.optimizers.optimizer import DATA_SEED, Hyper, optimizer, roles


class TrainState(NamedTuple):
    """What a checkpoint holds: parameters, moments, and the number of steps done."""

    params: nnx.State
    opt_state: optax.OptState
    step: Int[Array, "*R"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Computation:
    """What is fixed when a program is compiled; see ``computation``.

    Attributes:
      config: the network.
      compute_dtype: of activations and matrix products, "float32" or "bfloat16".
      algorithm: of the optimiser.
      objective: what is minimised.
      mesh: the devices.
      execution: how it is computed, nothing left open.
      graphdef: the network without its parameters.
      abstract_params: their shapes and shardings.
    """

    config: ModelConfig
    compute_dtype: str
    algorithm: Algorithm
    objective: Objective
    mesh: jax.sharding.Mesh
    execution: Execution
    graphdef: nnx.GraphDef
    abstract_params: nnx.State

    @property
    def matmul_precision(self) -> str:
        """Float32 means float32: by default GPUs would multiply in TF32 and TPUs in bfloat16."""
        return "highest" if self.compute_dtype == "float32" else "default"

    def network(self, params: nnx.State) -> Transformer:
        """The network with these parameters."""
        return nnx.merge(self.graphdef, params)

    def optimizer(self, hyper: Hyper) -> optax.GradientTransformation:
        """The optimiser with the constants of a run."""
        return optimizer(hyper, roles(self.abstract_params), self.algorithm)


def computation(
    config: ModelConfig,
    *,
    compute_dtype: str,
    algorithm: Algorithm,
    objective_name: str,
    mesh: jax.sharding.Mesh,
    execution: Execution,
) -> Computation:
    """How this network is computed on this mesh."""
    with jax.set_mesh(mesh):
        # An abstract key: the devices of a topology that is not here cannot hold one.
        key = jax.eval_shape(lambda: jax.random.key(0))
        make = functools.partial(build, config, compute_dtype, execution)
        graphdef, abstract_params = nnx.split(nnx.eval_shape(make, key))
    return Computation(
        config=config,
        compute_dtype=compute_dtype,
        algorithm=algorithm,
        objective=objective(objective_name),
        mesh=mesh,
        execution=execution,
        graphdef=graphdef,
        abstract_params=abstract_params,
    )


def build(
    config: ModelConfig, compute_dtype: str, execution: Execution, key: Key[Array, ""]
) -> Transformer:
    """The network with initial parameters. Not jitted as a whole: see layers.normal."""
    return Transformer(
        config,
        compute_dtype=jnp.dtype(compute_dtype),
        rngs=nnx.Rngs(params=key),
        execution=execution,
    )


@functools.partial(jax.jit, static_argnums=0)
def init_moments(this: Computation, params: nnx.State, hyper: Hyper) -> optax.OptState:
    """What the optimiser remembers before the first step."""
    return this.optimizer(hyper).init(params)


def init_state(this: Computation, key: Key[Array, ""], hyper: Hyper) -> TrainState:
    """The state of a run before its first step."""
    params = nnx.state(build(this.config, this.compute_dtype, this.execution, key))
    return TrainState(params, init_moments(this, params, hyper), jnp.zeros((), jnp.int32))


# By name, of one step: "loss_nats", "grad_norm", and what the layers say.
Metrics = dict[str, Float[Array, ""]]
LOSS, GRAD_NORM = "loss_nats", "grad_norm"


def loss(
    this: Computation, params: nnx.State, batch: Batch, hyper: Hyper
) -> tuple[Float[Array, ""], Metrics]:
    """(what is minimised, the mean nats per unit and what the layers say)."""
    found = this.objective.loss(this.network(params), batch, hyper, this.execution.n_loss_chunks)
    minimised = found.objective
    for name, weight in this.config.loss_weights.items():
        minimised = minimised + weight * found.said[name]
    return minimised, {LOSS: found.nats, **found.said}


def gradients(
    this: Computation, params: nnx.State, batch: Batch, hyper: Hyper
) -> tuple[nnx.State, Metrics]:
    """Mean gradients and metrics over the batch; in parts of equal size, so the mean of their means
    is the same."""
    n = this.execution.n_microbatches
    slope = jax.grad(functools.partial(loss, this), has_aux=True)
    if n == 1:
        return slope(params, batch, hyper)

    def split(array: Shaped[Array, "B ..."]) -> Shaped[Array, "n_parts part ..."]:
        # Every device's rows are dealt out over the parts: no part moves rows between devices.
        shape = (array.shape[0] // n, n, *array.shape[1:])
        whole = (None,) * (len(shape) - 1)
        return jnp.moveaxis(jax.lax.reshape(array, shape, out_sharding=P(BATCH, *whole)), 1, 0)

    def add(total: tuple, rows: Batch) -> tuple[tuple, None]:
        new = slope(params, rows, hyper)
        return jax.tree.map(lambda a, b: a + b / n, total, new), None

    zero = jnp.zeros((), jnp.float32, out_sharding=P())
    metrics = dict.fromkeys((LOSS, *this.config.says), zero)
    zeros = jax.tree.map(jnp.zeros_like, params), metrics
    return jax.lax.scan(add, zeros, jax.tree.map(split, batch))[0]


def train_step(
    this: Computation, state: TrainState, hyper: Hyper, batch: Batch
) -> tuple[TrainState, Metrics]:
    """(state after one step, its metrics; the norm of the gradients is that before clipping)."""
    # Of the seed and the step alone: resumed runs and branches of a trunk draw what they would.
    key = jax.random.fold_in(jax.random.key(hyper[DATA_SEED]), state.step)
    drawn = this.objective.draw(batch, key, hyper)
    grads, metrics = gradients(this, state.params, drawn, hyper)
    updates, opt_state = this.optimizer(hyper).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics |= {GRAD_NORM: optax.tree.norm(grads)}
    return TrainState(params, opt_state, state.step + 1), metrics


def train_chunk(
    this: Computation,
    state: TrainState,
    hyper: Hyper,
    batches: Mapping[str, Shaped[Array, "S B ..."]],
    first: Int[Array, ""],
    end: Int[Array, ""],
) -> tuple[TrainState, dict[str, Float[Array, " S"]]]:
    """(state, metrics) of steps ``first`` to ``end`` - 1 of a chunk; zeros for the others.

    The bounds are traced: one program serves every number of steps up to S, and a resumed run,
    whose chunks begin elsewhere, executes the very same instructions per step. On a GPU, XLA asks
    the host after each step of such a loop whether to go on, and not where the count is fixed
    (xla/backends/gpu/runtime/while_thunk.cc); but each fixed count would be a program of its own.
    What this costs has not been measured on a GPU.
    """

    def body(i: Int[Array, ""], carry: tuple) -> tuple:
        state, told = carry
        state, metrics = train_step(this, state, hyper, _row(batches, i))
        return state, {name: told[name].at[i].set(value) for name, value in metrics.items()}

    n_steps = jax.tree.leaves(batches)[0].shape[0]
    zeros = dict.fromkeys((LOSS, GRAD_NORM, *this.config.says), jnp.zeros(n_steps, jnp.float32))
    with jax.default_matmul_precision(this.matmul_precision):
        return jax.lax.fori_loop(first, end, body, (state, zeros))


def _row(arrays: Mapping[str, Shaped[Array, "n ..."]], i: Int[Array, ""]) -> Batch:
    return {
        name: jax.lax.dynamic_index_in_dim(array, i, keepdims=False)
        for name, array in arrays.items()
    }


class ByWindow(NamedTuple):
    """Of each window its nats and its units; both, too, by how much is seen (by_context.py); and
    how many are not what the network thinks most probable, where the objective says."""

    nats: Float[Array, "*R n_batches B"]
    n_units: Float[Array, "*R n_batches B"]
    nats_by_context: Float[Array, "*R n_batches B n_bins"]
    units_by_context: Float[Array, "*R n_batches B n_bins"]
    n_wrong: Float[Array, "*R n_batches B"]


def evaluate(
    this: Computation,
    params: nnx.State,
    batches: Mapping[str, Shaped[Array, "n_batches B ..."]],
    n: Int[Array, ""],
) -> ByWindow:
    """Of the windows of the first ``n`` batches, on every device; zeros of the others."""
    n_batches, batch_size = jax.tree.leaves(batches)[0].shape[:2]
    n_chunks = memory.loss_chunks(this.config, batch_size, this.mesh, this.execution.layout)

    def body(i: Int[Array, ""], found: ByWindow) -> ByWindow:
        numbers = i * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
        network = this.network(params)
        nats, is_unit, is_wrong = this.objective.evaluate(
            network, _row(batches, i), numbers, n_chunks
        )
        n_units, n_wrong = (
            jnp.sum(where, axis=1).astype(jnp.float32)
            for where in (is_unit, jnp.zeros_like(is_unit) if is_wrong is None else is_wrong)
        )
        *whole, n_wrong = (
            jax.sharding.reshard(row, P(None)) for row in (jnp.sum(nats, axis=1), n_units, n_wrong)
        )
        by_context = (_by_context(a, bins) for a in (nats, is_unit.astype(jnp.float32)))
        rows = (*whole, *by_context, n_wrong)
        put = jax.lax.dynamic_update_index_in_dim
        return ByWindow(*(put(a, row, i, 0) for a, row in zip(found, rows, strict=True)))

    bins = context_bins(this.config.seq_len)
    shape = (n_batches, batch_size)
    zeros = jnp.zeros(shape, jnp.float32, out_sharding=P(None, None))
    by_bin = jnp.zeros((*shape, len(bins)), jnp.float32, out_sharding=P(None, None, None))
    with jax.default_matmul_precision(this.matmul_precision):
        return jax.lax.fori_loop(0, n, body, ByWindow(zeros, zeros, by_bin, by_bin, zeros))


def _by_context(
    values: Float[Array, "B T"], bins: list[tuple[int, int]]
) -> Float[Array, "B n_bins"]:
    """Sums over the positions of each bin, on every device."""
    whole = jax.sharding.reshard(values, P(None, None))
    return jnp.stack([jnp.sum(whole[:, first:end], axis=1) for first, end in bins], axis=1)
