# SPDX-License-Identifier: Apache-2.0
"""The digest of a run's parameters: of their numbers alone, whatever mesh they lie on."""

import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int, Shaped, UInt

# Of an array that other processes have parts of, a device and a host hold so much at a time.
PART_BYTES = 2**26
_UNSIGNED = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def params_sha256(
    params: nnx.State, n_runs: int, takers: Mapping[int, Callable[[bytes], None]] | None = None
) -> list[str]:
    """By run, sha256 of the parameters' bytes, in tree order, each array in C order.

    Every process must ask for it, and each is told it.

    Args:
      takers: by run, what is given the same bytes, part by part.
    """
    totals, takers = [hashlib.sha256() for _ in range(n_runs)], takers or {}
    for leaf in jax.tree.leaves(params):
        for run, part in _parts(leaf, n_runs):
            data = part.tobytes()
            totals[run].update(data)
            if run in takers:
                takers[run](data)
    return [total.hexdigest() for total in totals]


def _parts(array: Shaped[Array, "..."], n_runs: int) -> Iterator[tuple[int, np.ndarray]]:
    """(run, elements), in C order."""
    if array.is_fully_addressable or array.is_fully_replicated:
        whole = np.asarray(array)
        yield from enumerate(whole if n_runs > 1 else [whole])
    else:
        yield from gathered_parts(array, n_runs)


def gathered_parts(
    array: Shaped[Array, "..."], n_runs: int, part_bytes: int = PART_BYTES
) -> Iterator[tuple[int, np.ndarray]]:
    """(run, bits of its elements) in C order, brought here from all devices part by part.

    Args:
      array: with a leading axis of runs where there are several.
      part_bytes: most of a part; a part has one element at least.
    """
    shape, size = array.shape, array.dtype.itemsize
    n_lead = int(n_runs > 1)
    # The last axis but which all behind fit into a part; runs are never in one part.
    axis = len(shape) - 1
    while axis > n_lead and size * math.prod(shape[axis:]) <= part_bytes:
        axis -= 1
    behind = size * math.prod(shape[axis + 1 :])
    step = 1 if axis < n_lead else min(shape[axis], max(1, part_bytes // behind))
    sizes = (1,) * axis + (step,) + shape[axis + 1 :]
    for index in np.ndindex(*shape[:axis]):
        for first in range(0, shape[axis], step):
            start = min(first, shape[axis] - step)  # The last one overlaps the one before.
            at = jnp.array([*index, start] + [0] * (len(shape) - axis - 1), jnp.int32)
            part = np.asarray(_part(array, at, sizes, array.sharding)).reshape(sizes[axis:])
            yield ((*index, start)[0] if n_lead else 0), part[first - start :]


@functools.partial(jax.jit, static_argnums=(2, 3))
def _part(
    array: Shaped[Array, "..."],
    at: Int[Array, " n_axes"],
    sizes: tuple[int, ...],
    sharding: NamedSharding,
) -> UInt[Array, "..."]:
    """Bits of ``array[at : at + sizes]`` on every device: each gives what it has of it, else 0."""
    spec = (*sharding.spec, *(None,) * (array.ndim - len(sharding.spec)))
    split = [(names,) if isinstance(names, str) else names or () for names in spec]

    def mine(part: Shaped[Array, "..."], at: Int[Array, " n_axes"]) -> UInt[Array, "..."]:
        part = jax.lax.bitcast_convert_type(part, _UNSIGNED[part.dtype.itemsize])
        for axis, (size, names) in enumerate(zip(sizes, split, strict=True)):
            n_here = part.shape[axis]
            first = jax.lax.axis_index(names) * n_here if names else 0
            place = at[axis] - first + jnp.arange(size)
            is_here = ((place >= 0) & (place < n_here)).reshape([-1] + [1] * (part.ndim - axis - 1))
            part = jnp.where(is_here, jnp.take(part, place, axis=axis, mode="clip"), 0)
        return jax.lax.psum(part, sum(split, ()))

    return jax.shard_map(mine, mesh=sharding.mesh, in_specs=(P(*spec), P()), out_specs=P())(
        array, at
    )
