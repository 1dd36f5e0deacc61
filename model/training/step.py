# SPDX-License-Identifier: Apache-2.0
"""The compiled part of training: initial state, a chunk of steps, an evaluation."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from model.config import ModelConfig
from model.execution import AUTO, Execution
from model.sharding import BATCH, LAYOUTS, make_mesh
from model.training import memory
from model.training.config import Algorithm, TrainConfig
from model.training.objectives.next_token import LinearHead
from model.training.optimizer import Hyper, hyper_arrays, optimizer, roles
from model.transformer import Transformer


class TrainState(NamedTuple):
    """What a checkpoint holds: parameters, moments, and the number of steps done."""

    params: nnx.State
    opt_state: Any
    step: Int[Array, ""]


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """The jitted functions of one network on one mesh; shared by all runs of that shape.

    Attributes:
      mesh: the mesh they run on; enter it with ``jax.set_mesh`` before calling them.
      execution: how they compute, nothing left open.
      batch_shape: [K, B, T + 1] of the chunks of training.
      init: (key, hyper) -> TrainState.
      train_chunk: (state, hyper, batches [K, B, T+1], n <= K) -> (state, loss [K], grad_norm [K]);
        the state is donated.
      evaluate: (params, windows [K, B, T+1], weights [K, B], n <= K) -> summed nats.
      abstract_state: hyper -> shapes, dtypes and shardings of a TrainState.
    """

    mesh: jax.sharding.Mesh
    execution: Execution
    batch_shape: tuple[int, int, int]
    init: Any
    train_chunk: Any
    evaluate: Any
    abstract_state: Callable[[Hyper], TrainState]

    @property
    def n_batch_shards(self) -> int:
        """Parts into which the mesh splits a batch."""
        return math.prod(self.mesh.shape[axis] for axis in BATCH)

    def batch_sharding(self, n_axes: int) -> NamedSharding:
        """Of an array [n, B, ...]: its batch is split."""
        return NamedSharding(self.mesh, P(None, BATCH, *(None,) * (n_axes - 2)))

    @functools.cached_property
    def rows(self) -> range:
        """The rows of a training batch that lie on this process's devices."""
        batch_size = self.batch_shape[1]
        parts = self.batch_sharding(3).addressable_devices_indices_map(self.batch_shape).values()
        bounds = [part[1].indices(batch_size) for part in parts if part is not None]
        low, high = min(bound[0] for bound in bounds), max(bound[1] for bound in bounds)
        # Where the devices of a process are strewn over the mesh it loads all rows.
        is_share = batch_size % (high - low) == 0 and low % (high - low) == 0
        return range(low, high) if is_share else range(batch_size)

    def put(self, array: Any) -> jax.Array:
        """A host array of shape [n, B, ...] on the mesh, its batch split as the layout says.

        Every process passes the whole array; each copies the parts of its own devices.
        """
        sharding = self.batch_sharding(array.ndim)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    def put_rows(self, rows: Any) -> jax.Array:
        """A chunk of training batches on the mesh, of which this process passes its ``rows``."""
        first = self.rows.start

        def part(index: Any) -> Any:
            low, high, _ = index[1].indices(self.batch_shape[1])
            return rows[index[0], low - first : high - first]

        sharding = self.batch_sharding(len(self.batch_shape))
        return jax.make_array_from_callback(self.batch_shape, sharding, part)

    def lowered(self, hyper: dict[str, Any]) -> jax.stages.Lowered:
        """``train_chunk`` before it is compiled, from shapes alone; ``hyper`` may be of any run."""
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), hyper)
        batches = jax.ShapeDtypeStruct(
            self.batch_shape, jnp.int32, sharding=self.batch_sharding(len(self.batch_shape))
        )
        n = jax.ShapeDtypeStruct((), jnp.int32)
        with jax.set_mesh(self.mesh):
            return self.train_chunk.lower(self.abstract_state(shapes), shapes, batches, n)


def compile_program(
    model: ModelConfig,
    train: TrainConfig,
    mesh_shape: tuple[int, ...],
    execution: Execution = AUTO,
    devices: tuple[jax.Device, ...] | None = None,
) -> Program:
    """The program of a network; cached, so that points of one shape compile once per process.

    What ``execution`` leaves open is chosen here: kernels by the platform, remat and then
    accumulation by the memory that the compiled program needs, where the device says what it has.

    Args:
      devices: see ``make_mesh``.

    Raises:
      ValueError: if the mesh or a kernel does not fit the network, or nothing fits into memory.
    """
    mesh = make_mesh(mesh_shape, devices)
    limit, hyper = memory.limit_bytes(mesh), hyper_arrays(train)
    for candidate in memory.candidates(execution, model, train, mesh):
        algorithm = train.optimizer.compiled
        program = _program(model, train.compute_dtype, train.batch_size, algorithm, mesh, candidate)
        if limit is None:
            return program
        need = _needed_bytes(program, tuple(hyper))
        if need <= limit:
            return program
    assert limit is not None
    raise ValueError(memory.refusal(model, train, candidate, need, limit))


@functools.cache
def _needed_bytes(program: Program, names: tuple[str, ...]) -> float:
    """Measured once for all runs of a program; ``names`` are those of its Hyper."""
    hyper = {name: jax.ShapeDtypeStruct((), jnp.float32) for name in names}
    return memory.needed_bytes(program.lowered(hyper))


@functools.cache
def _program(
    config: ModelConfig,
    compute_dtype: str,
    batch_size: int,
    algorithm: Algorithm,
    mesh: jax.sharding.Mesh,
    execution: Execution,
) -> Program:
    layout = LAYOUTS[execution.layout]
    dtype = jnp.dtype(compute_dtype)
    # Float32 means float32: by default GPUs would multiply in TF32 and TPUs in bfloat16.
    precision = "highest" if compute_dtype == "float32" else "default"

    def build(key: jax.Array) -> Transformer:
        rngs = nnx.Rngs(params=key)
        return Transformer(config, compute_dtype=dtype, rngs=rngs, execution=execution)

    with jax.set_mesh(mesh):
        # An abstract key: the devices of a topology that is not here cannot hold one.
        key = jax.eval_shape(lambda: jax.random.key(0))
        graphdef, abstract = nnx.split(nnx.eval_shape(build, key))
    param_roles = roles(abstract)

    def head_of(n_chunks: int) -> LinearHead:
        return LinearHead(config.logit_multiplier, n_chunks, layout)

    def init(key: jax.Array, hyper: Hyper) -> TrainState:
        # Not jitted as a whole: see layers.normal.
        params = nnx.state(build(key))
        return TrainState(params, init_moments(params, hyper), jnp.zeros((), jnp.int32))

    @jax.jit
    def init_moments(params: nnx.State, hyper: Hyper) -> Any:
        return optimizer(hyper, param_roles, algorithm).init(params)

    def loss(params: nnx.State, batch: Int[Array, "B T1"], z_loss_weight: Array) -> tuple:
        network = nnx.merge(graphdef, params)
        x, _ = network.features(batch[:, :-1])
        targets = _like(batch[:, 1:], x)
        head = head_of(execution.n_loss_chunks)
        return head.loss(x, network.head(), targets, z_loss_weight)

    def gradients(params: nnx.State, batch: Int[Array, "B T1"], z_loss_weight: Array) -> tuple:
        """Mean over the batch, in parts of it: their sizes are equal, so the mean of means is."""
        n = execution.n_microbatches
        slope = jax.grad(loss, has_aux=True)
        if n == 1:
            return slope(params, batch, z_loss_weight)
        # Every device's rows are dealt out over the parts: no part moves rows between devices.
        shape = (batch.shape[0] // n, n, batch.shape[1])
        parts = jax.lax.reshape(batch, shape, out_sharding=P(BATCH, None, None))
        parts = jnp.moveaxis(parts, 1, 0)

        def add(total: tuple, part: Array) -> tuple[tuple, None]:
            new = slope(params, part, z_loss_weight)
            return jax.tree.map(lambda a, b: a + b / n, total, new), None

        zeros = jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.float32)
        return jax.lax.scan(add, zeros, parts)[0]

    def train_step(state: TrainState, hyper: Hyper, batch: Int[Array, "B T1"]) -> tuple:
        grads, plain = gradients(state.params, batch, hyper["z_loss_weight"])
        chain = optimizer(hyper, param_roles, algorithm)
        updates, opt_state = chain.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, opt_state, state.step + 1), plain, optax.tree.norm(grads)

    def train_chunk(
        state: TrainState, hyper: Hyper, batches: Int[Array, "K B T1"], n: Int[Array, ""]
    ) -> tuple[TrainState, Float[Array, " K"], Float[Array, " K"]]:
        # The trip count is traced: one program serves every chunk length up to K, and a resumed
        # run, whose chunks begin elsewhere, executes the very same instructions per step.
        def body(i: Array, carry: tuple) -> tuple:
            state, losses, norms = carry
            batch = jax.lax.dynamic_index_in_dim(batches, i, keepdims=False)
            state, plain, norm = train_step(state, hyper, batch)
            return state, losses.at[i].set(plain), norms.at[i].set(norm)

        zeros = jnp.zeros(batches.shape[0], jnp.float32)
        with jax.default_matmul_precision(precision):
            return jax.lax.fori_loop(0, n, body, (state, zeros, zeros))

    def evaluate(
        params: nnx.State,
        windows: Int[Array, "K B T1"],
        weights: Float[Array, "K B"],
        n: Int[Array, ""],
    ) -> Float[Array, ""]:
        n_chunks = memory.loss_chunks(config, windows.shape[1], mesh, execution.layout)

        def body(i: Array, total: Array) -> Array:
            tokens = jax.lax.dynamic_index_in_dim(windows, i, keepdims=False)
            weight = jax.lax.dynamic_index_in_dim(weights, i, keepdims=False)
            network = nnx.merge(graphdef, params)
            x, _ = network.features(tokens[:, :-1])
            nats = head_of(n_chunks).nats(x, network.head(), _like(tokens[:, 1:], x))
            return total + jnp.sum(nats * weight[:, None])

        with jax.default_matmul_precision(precision):
            return jax.lax.fori_loop(0, n, body, jnp.zeros((), jnp.float32))

    def abstract_state(hyper: dict[str, Any]) -> TrainState:
        with jax.set_mesh(mesh):
            moments = jax.eval_shape(init_moments, abstract, hyper)
        step = jax.eval_shape(lambda: jnp.zeros((), jnp.int32))
        return jax.tree.map(functools.partial(_on, mesh), TrainState(abstract, moments, step))

    return Program(
        mesh=mesh,
        execution=execution,
        # Two at least: XLA folds an axis of one away and sums the loss in another order.
        batch_shape=(max(execution.steps_per_dispatch, 2), batch_size, config.seq_len + 1),
        init=init,
        train_chunk=jax.jit(train_chunk, donate_argnums=0),
        evaluate=jax.jit(evaluate),
        abstract_state=abstract_state,
    )


def _like(targets: Int[Array, "B L"], x: Float[Array, "B L D"]) -> Int[Array, "B L"]:
    """The targets where the features of their positions are."""
    return jax.sharding.reshard(targets, P(*jax.typeof(x).sharding.spec[:2]))


def _on(mesh: jax.sharding.Mesh, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """The abstract array on the devices of ``mesh``; what lies nowhere yet, everywhere."""
    spec = leaf.sharding.spec if leaf.sharding else P()
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))
