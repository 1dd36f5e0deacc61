# SPDX-License-Identifier: Apache-2.0
"""Arrays in another shape, split over the mesh as they were."""

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array


def reshaped(x: Array, shape: tuple[int, ...], axes: tuple[int | None, ...]) -> Array:
    """x in another shape, each of its axes split as that axis of x is, None: not split.

    JAX does not know which axes of length 1 stay which, and would split none of them.
    """
    at = jax.typeof(x).sharding
    spec = P(*(None if axis is None else at.spec[axis] for axis in axes))
    return jax.lax.reshape(x, shape, out_sharding=NamedSharding(at.mesh, spec))
