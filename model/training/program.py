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

from model.network.execution import Execution
from model.network.sharding import BATCH
from model.training.mapped_step import (
    lead_axes,
)
from model.training.objectives.objective import Batch, Objective
from model.training.optimizers.optimizer import Hyper
from model.training.step import (
    ByWindow,
    TrainState,
)

# Windows per evaluation step, of all runs together, rounded up to what the mesh divides: bounds
# memory, and moves no loss.
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
      objective: what is minimised.
      batch_shapes: of each array of a chunk of training: [S, B, ...], and its dtype.
      init: (key, hyper) -> TrainState; of a pack (R keys, hyper).
      train_chunk: (state, hyper, batches of arrays [S, B, ...], first, end <= S) -> (state,
        metrics [S] by name), of steps first to end - 1; the state is donated.
      evaluate: (params, batches of arrays [n_batches, B, ...], n) -> ByWindow of the first n.
      abstract_state: hyper of one run -> shapes, dtypes and shardings of a TrainState.
    """

    mesh: jax.sharding.Mesh
    execution: Execution
    n_runs: int
    objective: Objective
    batch_shapes: dict[str, jax.ShapeDtypeStruct]
    init: Callable[..., TrainState]
    train_chunk: Callable[..., tuple[TrainState, dict[str, Array]]]
    evaluate: Callable[..., ByWindow]
    abstract_state: Callable[[Mapping[str, Array | jax.ShapeDtypeStruct]], TrainState]

    @property
    def n_chunk_steps(self) -> int:
        """S, the most steps of a chunk."""
        return self._any_shape.shape[0]

    @property
    def batch_size(self) -> int:
        return self._any_shape.shape[1]

    @property
    def _any_shape(self) -> jax.ShapeDtypeStruct:
        return next(iter(self.batch_shapes.values()))

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
        batch_size, axis = self.batch_size, len(self.lead) + 1
        shape = self.lead + self._any_shape.shape
        parts = (
            self.batch_sharding(len(self._any_shape.shape))
            .addressable_devices_indices_map(shape)
            .values()
        )
        bounds = [part[axis].indices(batch_size) for part in parts if part is not None]
        low, high = min(bound[0] for bound in bounds), max(bound[1] for bound in bounds)
        # Where the devices of a process are strewn over the mesh it loads all rows.
        is_share = batch_size % (high - low) == 0 and low % (high - low) == 0
        return range(low, high) if is_share else range(batch_size)

    def put(self, windows: Int[np.ndarray, "*R n B T1"]) -> Batch:
        """Windows of tokens as batches on the mesh, split as the layout says.

        Every process passes all of them; each copies the parts of its own devices.
        """
        return {
            name: self._put(array, self.batch_sharding(array.ndim - len(self.lead)))
            for name, array in self.objective.from_windows(windows).items()
        }

    def _put(self, array: Shaped[np.ndarray, "..."], sharding: NamedSharding) -> Array:
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    def put_rows(self, windows: Int[np.ndarray, "*R S n T1"]) -> Batch:
        """A chunk of training batches on the mesh, of which this process passes its ``rows``."""
        first, axis = self.rows.start, len(self.lead) + 1

        def put(name: str, rows: np.ndarray) -> Array:
            def part(index: Any) -> np.ndarray:
                low, high, _ = index[axis].indices(self.batch_size)
                return rows[(*index[:axis], slice(low - first, high - first))]

            shape = self.batch_shapes[name].shape
            sharding = self.batch_sharding(len(shape))
            return jax.make_array_from_callback(self.lead + shape, sharding, part)

        found = self.objective.from_windows(windows)
        return {name: put(name, rows) for name, rows in found.items()}

    def nothing(self) -> Batch:
        """A chunk of zeros."""
        return {
            name: self._put(
                np.zeros(self.lead + array.shape, array.dtype),
                self.batch_sharding(len(array.shape)),
            )
            for name, array in self.batch_shapes.items()
        }

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
        batches = self._abstract(self.batch_shapes)
        jitted = cast(jax.stages.Wrapped, self.train_chunk)
        with jax.set_mesh(self.mesh):
            return jitted.lower(self.abstract_state(alone), shapes, batches, number, number)

    def lowered_evaluation(
        self, hyper: Mapping[str, Array | jax.ShapeDtypeStruct], n_windows: int
    ) -> jax.stages.Lowered:
        """``evaluate`` likewise, of so many validation windows of each run."""
        shape = self.eval_shape(n_windows)
        windows = self._abstract(
            {
                name: jax.ShapeDtypeStruct(shape + array.shape[2:], array.dtype)
                for name, array in self.batch_shapes.items()
            }
        )
        jitted = cast(jax.stages.Wrapped, self.evaluate)
        with jax.set_mesh(self.mesh):
            params = self.abstract_state(hyper).params
            return jitted.lower(params, windows, self._everywhere())

    def _abstract(
        self, shapes: Mapping[str, jax.ShapeDtypeStruct]
    ) -> dict[str, jax.ShapeDtypeStruct]:
        """Batches of these shapes, of one run, where they lie."""
        return {
            name: jax.ShapeDtypeStruct(
                self.lead + array.shape,
                array.dtype,
                sharding=self.batch_sharding(len(array.shape)),
            )
            for name, array in shapes.items()
        }

    def _everywhere(self, *shape: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(self.mesh, P(*(None,) * len(shape)))
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
