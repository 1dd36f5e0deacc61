# SPDX-License-Identifier: Apache-2.0
"""Networks around parameters that are given. Tracing an initialisation takes longer than many
tests do, and so each network is outlined once."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from model.network.config import ModelConfig
from model.network.transformer import Transformer


def outline(
    config: ModelConfig, compute_dtype: DTypeLike = jnp.float32
) -> tuple[nnx.GraphDef[Any], nnx.State]:
    """(graph, parameters as shapes) on the mesh in context."""
    return _outline(config, compute_dtype, jax.sharding.get_abstract_mesh())


@functools.cache
def _outline(
    config: ModelConfig, compute_dtype: DTypeLike, _: jax.sharding.AbstractMesh
) -> tuple[nnx.GraphDef[Any], nnx.State]:
    return nnx.split(
        nnx.eval_shape(lambda: Transformer(config, compute_dtype=compute_dtype, rngs=nnx.Rngs(0)))
    )


def with_params(config: ModelConfig, params: nnx.State) -> Transformer:
    """The network, computing in float32."""
    return nnx.merge(outline(config)[0], params)
