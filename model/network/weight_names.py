# SPDX-License-Identifier: Apache-2.0
"""The parameters of a network as named tensors, one for each layer: ``layers.0.mixer.q_dgqk``.

A name is the path of the parameter in the network. Blocks, of which a place in the pattern of
layers holds all repeats, [n_repeats, ...], are named layer by layer.
"""

from typing import NamedTuple

import jax
from flax import nnx


class Tensor(NamedTuple):
    """A float32 array by its name."""

    name: str
    shape: tuple[int, ...]


def tensors(params: nnx.State, *, n_lead: int = 0) -> list[tuple[Tensor, ...]]:
    """Of each leaf in tree order, the tensors that its elements are, one after the other.

    Args:
      params: arrays, or their shapes.
      n_lead: leading axes that are no part of the network: 1 for the runs of a pack.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    paths = [[str(key.key) for key in path if hasattr(key, "key")] for path, _ in leaves]
    period = len({path[1] for path in paths if path[0] == "blocks"})
    found = []
    for path, (_, leaf) in zip(paths, leaves, strict=True):
        shape = leaf.shape[n_lead:]
        if path[0] == "blocks":
            place, name = int(path[1]), ".".join(path[2:])
            layers = range(place, period * shape[0], period)
            found.append(tuple(Tensor(f"layers.{layer}.{name}", shape[1:]) for layer in layers))
        else:
            found.append((Tensor(".".join(path), shape),))
    return found
