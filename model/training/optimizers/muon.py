# SPDX-License-Identifier: Apache-2.0
"""Muon: momentum whose every matrix is made orthogonal; the Newton-Schulz iteration is Optax's."""

import math

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from model.network.sharding import AXES
from model.training.config import Algorithm


def scale_by_muon(
    momentum: Float[Array, ""], eps: Float[Array, ""], algorithm: Algorithm
) -> optax.GradientTransformation:
    """s U V^T for every matrix U S V^T of the momentum (Jordan et al. 2024; Liu et al. 2025).

    m <- momentum m + g; what is made orthogonal is m, with Nesterov g + momentum m. Its size does
    not matter, so a sum serves as well as a mean. Five iterations leave singular values of 0.7 to
    1.2, but for those that are tiny beside the matrix's Frobenius norm.

    Args:
      momentum: decay of m per step.
      eps: added to the Frobenius norm that a matrix is divided by.
      algorithm: the number of iterations, Nesterov, and what s is: see MuonConfig.
    """
    # Its own momentum off: Optax's is corrected as Adam's is, which the papers do not do.
    newton_schulz = optax.contrib.scale_by_muon(
        ns_steps=algorithm.ns_steps,
        beta=0.0,
        eps=eps,
        nesterov=False,
        weight_dimension_numbers=optax.contrib.MuonDimensionNumbers(1, 2),
    )

    def orthogonal(update: nnx.Variable) -> nnx.Variable:
        value, in_axes = update[...], update.get_metadata("in_axes")
        n_lead = value.ndim + in_axes[0]
        stack = value if n_lead else value[None]
        route = _route(jax.typeof(stack).sharding.spec)
        whole = _gathered(stack, route)
        fan_in = math.prod(value.shape[axis] for axis in in_axes)
        fan_out = math.prod(value.shape[n_lead + len(in_axes) :])
        matrices = whole.reshape(-1, fan_in, fan_out)
        # The state that it makes holds nothing that the next step needs: the compiler drops it.
        made, _ = newton_schulz.update(matrices, newton_schulz.init(matrices))
        made = _scale(algorithm.scale, fan_in, fan_out) * made.reshape(whole.shape)
        for spec in reversed(route[:-1]):
            made = jax.sharding.reshard(made, spec)
        return update.replace(made[: len(stack)].reshape(value.shape))

    def each(updates: nnx.State, _: nnx.State | None) -> nnx.State:
        is_variable = lambda node: isinstance(node, nnx.Variable)  # noqa: E731
        return jax.tree.map(orthogonal, updates, is_leaf=is_variable)

    momentum_sum = optax.trace(momentum, nesterov=algorithm.nesterov)
    return optax.chain(momentum_sum, optax.stateless(each))


def _scale(name: str, fan_in: int, fan_out: int) -> float:
    if name == "spectral":
        return math.sqrt(fan_out / fan_in)
    return 0.2 * math.sqrt(max(fan_in, fan_out))


def _gathered(stack: Float[Array, "n_weights ..."], route: list[P]) -> Float[Array, "n_padded ..."]:
    """A stack of weights, whole ones on every device; zeros fill up their number.

    A mesh splits both dimensions of a matrix, and Newton-Schulz contracts them in turn: instead of
    parts of matrices moving at each of its products, every device gets its share of the matrices.
    """
    n_devices = math.prod(jax.sharding.get_abstract_mesh().shape[axis] for axis in AXES[1:])
    padding = [(0, -len(stack) % n_devices)] + [(0, 0)] * (stack.ndim - 1)
    stack = jnp.pad(stack, padding)
    for spec in route[1:]:
        stack = jax.sharding.reshard(stack, spec)
    return stack


def _route(spec: P) -> list[P]:
    """Layouts from ``spec`` to that in which all mesh axes but "run" split the first dimension.

    One axis moves at a time, which is an all-to-all; for several at once XLA would gather the whole
    array on every device. First those that split nothing yet: that is free, and what follows moves
    less. Then the last of a dimension that several split.
    """
    dims = [() if d is None else (d,) if isinstance(d, str) else tuple(d) for d in spec]
    route = [dims]
    for moved in sorted(AXES[:0:-1], key=lambda axis: any(axis in d for d in dims)):
        rest = [tuple(axis for axis in d if axis != moved) for d in route[-1]]
        route.append([(*rest[0], moved), *rest[1:]])
    return [P(*dims) for dims in route]
