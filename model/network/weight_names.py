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
    stacks = [path[: path.index("blocks")] if "blocks" in path else None for path in paths]
    found = []
    for path, stack, (_, leaf) in zip(paths, stacks, leaves, strict=True):
        shape = leaf.shape[n_lead:]
        if stack is not None:
            n = len(stack)
            period = len(
                {other[n + 1] for other, own in zip(paths, stacks, strict=True) if own == stack}
            )
            place, name = int(path[n + 1]), ".".join(path[n + 2 :])
            names = (
                ".".join([*stack, "layers", str(layer), name])
                for layer in range(place, period * shape[0], period)
            )
            found.append(tuple(Tensor(name, shape[1:]) for name in names))
        else:
            found.append((Tensor(".".join(path), shape),))
    return found
