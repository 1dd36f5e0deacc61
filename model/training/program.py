# SPDX-License-Identifier: Apache-2.0
"""The compiled program of a network on a mesh, of one run or of a pack; one for each shape.

A pack of runs is the program of one, mapped (``jax.vmap``) over a leading axis of everything that
differs between them: parameters, moments, hyper-parameters, tokens. The mesh axis "run" splits that
axis, and as no run asks for another's numbers, nothing moves over it. One run is not mapped: its
program is then the same to the last bit, and no slower.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int, Shaped

from model.network.config import ModelConfig
from model.network.execution import AUTO, Execution
from model.network.sharding import BATCH, make_mesh
from model.training import memory
from model.training.config import Algorithm, TrainConfig
from model.training.mapped_step import (
    abstract_state,
    evaluate_runs,
    init_runs,
    lead_axes,
    train_runs,
)
from model.training.optimizer import Hyper, hyper_arrays
from model.training.step import (
    TrainState,
    computation,
    evaluate,
    init_state,
    train_chunk,
)

# Windows per evaluation step, of all runs together, rounded up to what the mesh divides: bounds
# memory; sums are weighted, so no loss moves.
EVAL_BATCH = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """The jitted functions of one network on one mesh; shared by all runs of that shape.

    Of a pack, all arrays have a leading axis [R], but for numbers of steps and of batches: the
    shapes below are those of one run.

    Attributes:
      mesh: the mesh they run on; enter it with ``jax.set_mesh`` before calling them.
      execution: how they compute, nothing left open.
      n_runs: R, the runs of the pack; 1 for a run alone.
      batch_shape: [S, B, T + 1] of the chunks of training.
      init: (key, hyper) -> TrainState; of a pack (R keys, hyper).
      train_chunk: (state, hyper, batches [S, B, T+1], first, end <= S) -> (state, loss [S],
        grad_norm [S]), of steps first to end - 1; the state is donated.
      evaluate: (params, batches [n, B, T+1], weights [n, B], n) -> sums of the windows'
        nats, and of their squares.
      abstract_state: hyper of one run -> shapes, dtypes and shardings of a TrainState.
    """

    mesh: jax.sharding.Mesh
    execution: Execution
    n_runs: int
    batch_shape: tuple[int, int, int]
    init: Callable[..., TrainState]
    train_chunk: Callable[..., tuple[TrainState, Array, Array]]
    evaluate: Callable[..., tuple[Array, Array]]
    abstract_state: Callable[[Mapping[str, Array | jax.ShapeDtypeStruct]], TrainState]

    @property
    def n_batch_shards(self) -> int:
        """Parts into which the mesh splits a batch."""
        return math.prod(self.mesh.shape[axis] for axis in BATCH)

    @property
    def lead(self) -> tuple[int, ...]:
        """The leading axes of a pack's arrays: (R,), or none."""
        return (self.n_runs,) if self.n_runs > 1 else ()

    def joined(self, hypers: Sequence[Hyper]) -> Hyper:
        """The numbers of the single runs as this program takes them: stacked, or those of one."""
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *hypers) if self.lead else hypers[0]

    def batch_sharding(self, n_axes: int) -> NamedSharding:
        """Of an array that is [n, B, ...] for one run: its batch is split."""
        return NamedSharding(
            self.mesh, P(*lead_axes(self.n_runs), None, BATCH, *(None,) * (n_axes - 2))
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

    def put(self, array: Shaped[np.ndarray, "..."]) -> Shaped[Array, "..."]:
        """A host array, [n, B, ...] for one run, on the mesh, its batch split as the layout says.

        Every process passes the whole array; each copies the parts of its own devices.
        """
        sharding = self.batch_sharding(array.ndim - len(self.lead))
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    def put_rows(self, rows: Int[np.ndarray, "*R S n T1"]) -> Int[Array, "*R S B T1"]:
        """A chunk of training batches on the mesh, of which this process passes its ``rows``."""
        first, axis = self.rows.start, len(self.lead) + 1

        def part(index: Any) -> np.ndarray:
            low, high, _ = index[axis].indices(self.batch_shape[1])
            return rows[(*index[:axis], slice(low - first, high - first))]

        shape = self.lead + self.batch_shape
        return jax.make_array_from_callback(shape, self.batch_sharding(3), part)

    def eval_shape(self, n_windows: int) -> tuple[int, int]:
        """Of so many validation windows of a run: batches, and windows in each, rounded up."""
        n_shards = self.n_batch_shards
        batch = -(-EVAL_BATCH // (n_shards * self.n_runs)) * n_shards
        return -(-n_windows // batch), batch

    def lowered(self, hyper: Mapping[str, Array | jax.ShapeDtypeStruct]) -> jax.stages.Lowered:
        """``train_chunk`` before it is compiled, from shapes alone; ``hyper`` may be of any run."""
        alone = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in hyper.items()}
        shapes = {
            name: self._everywhere(*self.lead, *x.shape, dtype=x.dtype) for name, x in alone.items()
        }
        number = self._everywhere()
        batches = jax.ShapeDtypeStruct(
            self.lead + self.batch_shape, jnp.int32, sharding=self.batch_sharding(3)
        )
        jitted = cast(jax.stages.Wrapped, self.train_chunk)
        with jax.set_mesh(self.mesh):
            return jitted.lower(self.abstract_state(alone), shapes, batches, number, number)

    def lowered_evaluation(
        self, hyper: Mapping[str, Array | jax.ShapeDtypeStruct], n_windows: int
    ) -> jax.stages.Lowered:
        """``evaluate`` likewise, of so many validation windows of each run."""
        shape = self.lead + self.eval_shape(n_windows)
        windows = jax.ShapeDtypeStruct(
            (*shape, self.batch_shape[2]), jnp.int32, sharding=self.batch_sharding(3)
        )
        weights = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=self.batch_sharding(2))
        jitted = cast(jax.stages.Wrapped, self.evaluate)
        with jax.set_mesh(self.mesh):
            params = self.abstract_state(hyper).params
            return jitted.lower(params, windows, weights, self._everywhere())

    def _everywhere(self, *shape: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(self.mesh, P(*(None,) * len(shape)))
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


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
    accumulation by the memory that the compiled programs need, training's and evaluation's, where
    the device says what it has.

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
            n_windows = -(-train.evaluation.n_tokens // model.seq_len)
            need = max(need, _evaluation_bytes(program, tuple(hyper), n_windows))
        if need <= limit:
            return program
    assert limit is not None
    raise memory.TooLarge(memory.refusal(model, train, candidate, need, limit, n_runs))


def evaluation_program(
    model: ModelConfig, train: TrainConfig, mesh_shape: tuple[int, ...]
) -> Program:
    """The program of a network that is only evaluated: what its training needs is not asked."""
    mesh = make_mesh(mesh_shape)
    execution = next(memory.candidates(AUTO, model, train, mesh))
    shape = (train.compute_dtype, train.batch_size, train.optimizer.compiled, 1)
    return _program(model, *shape, mesh, execution)


@functools.cache
def _needed_bytes(program: Program, names: tuple[str, ...]) -> float:
    """Measured once for all runs of a program; ``names`` are those of its Hyper."""
    return memory.needed_bytes(program.lowered(_any_hyper(names)))


@functools.cache
def _evaluation_bytes(program: Program, names: tuple[str, ...], n_windows: int) -> float:
    """Of the evaluation, while the moments of training wait beside it."""
    hyper = _any_hyper(names)
    moments = memory.local_bytes(program.abstract_state(hyper).opt_state)
    return moments + memory.needed_bytes(program.lowered_evaluation(hyper, n_windows))


def _any_hyper(names: tuple[str, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct((), jnp.float32) for name in names}


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
    this = computation(
        config,
        compute_dtype=compute_dtype,
        algorithm=algorithm,
        mesh=mesh,
        execution=execution,
    )
    is_pack = n_runs > 1
    init, chunk, evaluation = (
        (init_runs, train_runs, evaluate_runs) if is_pack else (init_state, train_chunk, evaluate)
    )
    return Program(
        mesh=mesh,
        execution=execution,
        n_runs=n_runs,
        # Two at least: XLA folds an axis of one away and sums the loss in another order.
        batch_shape=(max(execution.steps_per_dispatch, 2), batch_size, config.seq_len + 1),
        init=functools.partial(init, this),
        train_chunk=jax.jit(functools.partial(chunk, this), donate_argnums=0),
        evaluate=jax.jit(functools.partial(evaluation, this)),
        abstract_state=functools.partial(abstract_state, this, n_runs),
    )
