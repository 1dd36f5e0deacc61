# SPDX-License-Identifier: Apache-2.0
"""The compiled part of training: initial state, a chunk of steps, an evaluation.

A pack of runs is the program of one, mapped (``jax.vmap``) over a leading axis of everything that
differs between them: parameters, moments, hyper-parameters, tokens. The mesh axis "run" splits that
axis, and as no run asks for another's numbers, nothing moves over it. One run is not mapped: its
program is then the same to the last bit, and no slower.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from model.network.config import ModelConfig
from model.network.execution import AUTO, Execution
from model.network.sharding import BATCH, LAYOUTS, make_mesh
from model.network.transformer import Transformer
from model.training import memory
from model.training.config import Algorithm, TrainConfig
from model.training.objectives.next_token import LinearHead
from model.training.optimizer import Hyper, hyper_arrays, optimizer, roles
from model.training.processes import fetch


class TrainState(NamedTuple):
    """What a checkpoint holds: parameters, moments, and the number of steps done."""

    params: nnx.State
    opt_state: Any
    step: Int[Array, ""]


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """The jitted functions of one network on one mesh; shared by all runs of that shape.

    Of a pack, all arrays have a leading axis [R], but for numbers of steps and of batches: the
    shapes below are those of one run.

    Attributes:
      mesh: the mesh they run on; enter it with ``jax.set_mesh`` before calling them.
      execution: how they compute, nothing left open.
      n_runs: R, the runs of the pack; 1 for a run alone.
      batch_shape: [K, B, T + 1] of the chunks of training.
      init: (key, hyper) -> TrainState; of a pack (R keys, hyper).
      train_chunk: (state, hyper, batches [K, B, T+1], n <= K) -> (state, loss [K], grad_norm [K]);
        the state is donated.
      evaluate: (params, windows [K, B, T+1], weights [K, B], n <= K) -> summed nats.
      abstract_state: hyper of one run -> shapes, dtypes and shardings of a TrainState.
    """

    mesh: jax.sharding.Mesh
    execution: Execution
    n_runs: int
    batch_shape: tuple[int, int, int]
    init: Any
    train_chunk: Any
    evaluate: Any
    abstract_state: Callable[[Hyper], TrainState]

    @property
    def n_batch_shards(self) -> int:
        """Parts into which the mesh splits a batch."""
        return math.prod(self.mesh.shape[axis] for axis in BATCH)

    @property
    def lead(self) -> tuple[int, ...]:
        """The leading axes of a pack's arrays: (R,), or none."""
        return (self.n_runs,) if self.n_runs > 1 else ()

    def joined(self, trees: Sequence[Any]) -> Any:
        """The arrays of the single runs as this program takes them: stacked, or those of one."""
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) if self.lead else trees[0]

    def batch_sharding(self, n_axes: int) -> NamedSharding:
        """Of an array that is [n, B, ...] for one run: its batch is split."""
        return NamedSharding(
            self.mesh, P(*_lead(self.n_runs), None, BATCH, *(None,) * (n_axes - 2))
        )

    @functools.cached_property
    def rows(self) -> range:
        """The rows of a training batch that lie on this process's devices."""
        batch_size, axis = self.batch_shape[1], len(self.lead) + 1
        shape = self.lead + self.batch_shape
        parts = self.batch_sharding(3).addressable_devices_indices_map(shape).values()
        bounds = [part[axis].indices(batch_size) for part in parts if part is not None]
        low, high = min(bound[0] for bound in bounds), max(bound[1] for bound in bounds)
        # Where the devices of a process are strewn over the mesh it loads all rows.
        is_share = batch_size % (high - low) == 0 and low % (high - low) == 0
        return range(low, high) if is_share else range(batch_size)

    def put(self, array: Any) -> jax.Array:
        """A host array, [n, B, ...] for one run, on the mesh, its batch split as the layout says.

        Every process passes the whole array; each copies the parts of its own devices.
        """
        sharding = self.batch_sharding(array.ndim - len(self.lead))
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    def put_rows(self, rows: Any) -> jax.Array:
        """A chunk of training batches on the mesh, of which this process passes its ``rows``."""
        first, axis = self.rows.start, len(self.lead) + 1

        def part(index: Any) -> Any:
            low, high, _ = index[axis].indices(self.batch_shape[1])
            return rows[(*index[:axis], slice(low - first, high - first))]

        shape = self.lead + self.batch_shape
        return jax.make_array_from_callback(shape, self.batch_sharding(3), part)

    def lowered(self, hyper: dict[str, Any]) -> jax.stages.Lowered:
        """``train_chunk`` before it is compiled, from shapes alone; ``hyper`` may be of any run."""
        alone = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), hyper)
        everywhere = NamedSharding(self.mesh, P()) if self.lead else None
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(self.lead + x.shape, x.dtype, sharding=everywhere), alone
        )
        batches = jax.ShapeDtypeStruct(
            self.lead + self.batch_shape, jnp.int32, sharding=self.batch_sharding(3)
        )
        n = jax.ShapeDtypeStruct((), jnp.int32)
        with jax.set_mesh(self.mesh):
            return self.train_chunk.lower(self.abstract_state(alone), shapes, batches, n)


def compile_program(
    model: ModelConfig,
    train: TrainConfig,
    mesh_shape: tuple[int, ...],
    execution: Execution = AUTO,
    devices: tuple[jax.Device, ...] | None = None,
    n_runs: int = 1,
) -> Program:
    """The program of a network; cached, so that points of one shape compile once per process.

    What ``execution`` leaves open is chosen here: kernels by the platform, remat and then
    accumulation by the memory that the compiled program needs, where the device says what it has.

    Args:
      devices: see ``make_mesh``.
      n_runs: runs that train together, all alike in what ``train`` says of batch, dtype and
        compiled algorithm.

    Raises:
      ValueError: if the mesh or a kernel does not fit the network.
      TooLarge: a ValueError, if nothing fits into memory.
    """
    mesh = make_mesh(mesh_shape, devices)
    limit, hyper = memory.limit_bytes(mesh), hyper_arrays(train)
    for candidate in memory.candidates(execution, model, train, mesh, n_runs):
        algorithm = train.optimizer.compiled
        shape = (train.compute_dtype, train.batch_size, algorithm, n_runs)
        program = _program(model, *shape, mesh, candidate)
        if limit is None:
            return program
        need = _needed_bytes(program, tuple(hyper))
        if need <= limit:
            return program
    assert limit is not None
    raise memory.TooLarge(memory.refusal(model, train, candidate, need, limit, n_runs))


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
    n_runs: int,
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

        zero = jnp.zeros((), jnp.float32, out_sharding=P())
        with jax.default_matmul_precision(precision):
            return jax.lax.fori_loop(0, n, body, zero)

    def abstract_state(hyper: dict[str, Any]) -> TrainState:
        with jax.set_mesh(mesh):
            moments = jax.eval_shape(init_moments, abstract, hyper)
        step = jax.eval_shape(lambda: jnp.zeros((), jnp.int32))
        state = TrainState(abstract, moments, step)
        return jax.tree.map(functools.partial(_on, mesh, n_runs), state)

    def init_pack(keys: Sequence[jax.Array], hyper: Hyper) -> TrainState:
        # Each run begins as it would alone. One at a time on the devices: the pack fills them.
        alone = jax.tree.map(lambda x: x[0], hyper)
        runs = [jax.tree.map(fetch, init(key, alone)) for key in keys]
        return jax.tree.map(_stacked, abstract_state(alone), *runs)

    def train_pack(state: TrainState, hyper: Hyper, batches: Array, n: Array) -> tuple:
        hyper = jax.tree.map(lambda x: jax.sharding.reshard(x, P("run")), hyper)
        return jax.vmap(train_chunk, in_axes=(0, 0, 0, None))(state, hyper, batches, n)

    is_pack = n_runs > 1
    return Program(
        mesh=mesh,
        execution=execution,
        n_runs=n_runs,
        # Two at least: XLA folds an axis of one away and sums the loss in another order.
        batch_shape=(max(execution.steps_per_dispatch, 2), batch_size, config.seq_len + 1),
        init=init_pack if is_pack else init,
        train_chunk=jax.jit(train_pack if is_pack else train_chunk, donate_argnums=0),
        evaluate=jax.jit(jax.vmap(evaluate, in_axes=(0, 0, 0, None)) if is_pack else evaluate),
        abstract_state=abstract_state,
    )


def _lead(n_runs: int) -> tuple[str, ...]:
    """The mesh axis of a pack's leading axis; none for one run."""
    return ("run",) if n_runs > 1 else ()


def _stacked(like: jax.ShapeDtypeStruct, *runs: np.ndarray) -> jax.Array:
    """One array of the host arrays of the single runs, each device with its own parts."""
    stack = np.stack(runs)
    return jax.make_array_from_callback(stack.shape, like.sharding, lambda index: stack[index])


def _like(targets: Int[Array, "B L"], x: Float[Array, "B L D"]) -> Int[Array, "B L"]:
    """The targets where the features of their positions are."""
    return jax.sharding.reshard(targets, P(*jax.typeof(x).sharding.spec[:2]))


def _on(mesh: jax.sharding.Mesh, n_runs: int, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """The abstract array of all runs on the devices of ``mesh``; what lies nowhere yet lies
    everywhere."""
    dims = leaf.sharding.spec if leaf.sharding else P()
    lead = _lead(n_runs)
    shape = (n_runs,) * len(lead) + leaf.shape
    return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=NamedSharding(mesh, P(*lead, *dims)))
