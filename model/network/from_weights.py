# SPDX-License-Identifier: Apache-2.0
"""A network of named tensors (weight_names.py), on the mesh in context."""

from collections.abc import Mapping

import jax
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding
from jax.typing import DTypeLike

from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.network.weight_names import tensors


def from_weights(
    config: ModelConfig, weights: Mapping[str, np.ndarray], *, compute_dtype: DTypeLike
) -> Transformer:
    """The network with these weights, float32.

    Raises:
      ValueError: if a tensor is missing, is one too many, or has another shape.
    """

    def make() -> Transformer:
        return Transformer(config, compute_dtype=compute_dtype, rngs=nnx.Rngs(params=0))

    graphdef, abstract = nnx.split(nnx.eval_shape(make))
    leaves, structure = jax.tree.flatten(abstract)
    named = tensors(abstract)
    expected = {tensor.name: tensor.shape for group in named for tensor in group}
    found = {name: array.shape for name, array in weights.items()}
    if wrong := sorted(set(expected.items()) ^ set(found.items())):
        raise ValueError(f"weights are not those of the network: {wrong[0][0]} {wrong[0][1]}.")
    mesh = jax.sharding.get_mesh()
    arrays = []
    for leaf, group in zip(leaves, named, strict=True):
        value = np.stack([weights[tensor.name] for tensor in group]).reshape(leaf.shape)
        arrays.append(jax.device_put(value, NamedSharding(mesh, leaf.sharding.spec)))
    return nnx.merge(graphdef, jax.tree.unflatten(structure, arrays))
