# SPDX-License-Identifier: Apache-2.0
"""What depends on where a token stands: rotary angles, rows of a table."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int


def rotate(
    x: Float[Array, "B T *heads K"],
    theta: float,
    positions: Int[Array, "#B T"] | None = None,
    length: int | None = None,
) -> Float[Array, "B T *heads K"]:
    """Rotary positions: the pair (x_j, x_{j+K/2}) turns by position * theta^(-2j/K).

    Su et al. 2021 (arXiv:2104.09864), eq. 15, with the pairing of Llama. The angles are constants
    of the program, computed in float64: inside it XLA would recompute them for every head.

    Args:
      positions: each below ``length``; None: 0 to T - 1.
    """
    half = x.shape[-1] // 2
    angle = np.outer(np.arange(length or x.shape[1]), theta ** (-np.arange(half) / half))
    cos, sin = (table(angle).astype(np.float32) for table in (np.cos, np.sin))
    heads = (1,) * (x.ndim - 3)
    if positions is None:
        angles = [table[None, : x.shape[1]] for table in (cos, sin)]
    else:
        angles = [rows_at(jnp.asarray(table), positions, x) for table in (cos, sin)]
    cos, sin = (a.reshape(*a.shape[:2], *heads, half) for a in angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def rows_at(
    table: Float[Array, "T width"],
    positions: Int[Array, "#B T_own"],
    x: Float[Array, "B T_own ..."],
) -> Float[Array, "#B T_own width"]:
    """The rows of these positions, laid out as those of ``x`` are."""
    spec = jax.typeof(x).sharding.spec
    at = P(spec[0] if len(positions) > 1 else None, spec[1])
    positions = jax.sharding.reshard(positions, at)
    return jax.sharding.reshard(table, P(None, None)).at[positions].get(out_sharding=P(*at, None))
