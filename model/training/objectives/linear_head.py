# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy of a linear head, without the logits of a whole batch.

The float32 logits of a batch are the largest array of a small model: 4 B T V bytes, several times
over where a compiler keeps them for the backward pass. Here they exist for one part of the
positions at a time, and as the loss is one number, its gradients are known as soon as the logits
are: they are computed in the same pass and kept, [B, T, D] and [D, V], so nothing is computed
twice. (The same idea: Hsu et al. 2024, Liger kernels, arXiv:2410.10989, sec. 3.2.)
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, Shaped

from model.network.sharding import Layout, open_sums


def next_token_nats(
    logits: Float[Array, "B T V"], targets: Int[Array, "B T"]
) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
    """Cross-entropy of every target in nats, and log Z of its softmax for the z-loss.

    nats = log Z - logit[target]. The target's logit is picked by a masked sum, not by a gather,
    so that a vocabulary split over the mesh needs one reduction and no exchange of logits.
    """
    log_z = jax.nn.logsumexp(logits, axis=-1)
    return log_z - jnp.sum(jnp.where(_is_target(logits, targets), logits, 0.0), axis=-1), log_z


def _is_target(logits: Array, targets: Array) -> Array:
    ids = jnp.arange(logits.shape[-1], dtype=targets.dtype)[None, None]
    return targets[..., None] == ids


def placed_like(a: Shaped[Array, "B T"], x: Float[Array, "B T D"]) -> Shaped[Array, "B T"]:
    """Of each position a number, where its features are."""
    return jax.sharding.reshard(a, P(*jax.typeof(x).sharding.spec[:2]))


class LinearHead:
    """The output head: logits = multiplier x W, in ``n_chunks`` parts of the positions.

    Args:
      multiplier: factor on the logits.
      n_chunks: must divide T, on every device; 1 computes all logits at once.
      layout: letter of a dimension -> mesh axes.
      mask_id: a token that has no probability; None: all may have some.
    """

    def __init__(
        self, multiplier: float, n_chunks: int, layout: Layout, mask_id: int | None = None
    ):
        self.multiplier, self.n_chunks, self.layout = multiplier, n_chunks, layout
        self.mask_id = mask_id
        self.head_dims = layout.matrices.get("d"), layout.matrices.get("v")

    def nats(
        self, x: Float[Array, "B T D"], head: Float[Array, "D V"], targets: Int[Array, "B T"]
    ) -> Float[Array, "B T"]:
        """Cross-entropy of every target, in nats; for evaluation."""
        gathered = self._gathered(head, x.dtype)

        def part(_: None, inputs: tuple) -> tuple[None, Array]:
            x, targets = inputs
            return None, next_token_nats(self._logits(x, gathered), targets)[0]

        return self._over_parts(part, None, (x, targets))[1]

    def loss(
        self,
        x: Float[Array, "B T D"],
        head: Float[Array, "D V"],
        targets: Int[Array, "B T"],
        z_loss_weight: Float[Array, ""],
        weights: Float[Array, "B T"] | None = None,
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """(mean nats + z_loss_weight mean (log Z)^2, mean nats); the second has no gradient.

        Means over all positions, each multiplied by its weight where there are weights.
        """
        return _loss(self, x, head, targets, z_loss_weight, weights)

    def loss_and_gradients(
        self,
        x: Float[Array, "B T D"],
        head: Float[Array, "D V"],
        targets: Int[Array, "B T"],
        z_loss_weight: Float[Array, ""],
        weights: Float[Array, "B T"] | None = None,
    ) -> tuple[
        tuple[Float[Array, ""], Float[Array, ""]], tuple[Float[Array, "B T D"], Float[Array, "D V"]]
    ]:
        """The two losses, and the gradients of the first by ``x`` and ``head``."""
        gathered, scale = self._gathered(head, x.dtype), 1 / targets.size
        # Each device adds up its own positions of all parts; reduced once, behind the last.
        open_axes = open_sums(self.layout.position_axes)
        scalar = P(unreduced=open_axes)
        whole = P(None, self.layout.act("v")[0], unreduced=open_axes)
        head_sum = whole if open_axes else P(*self.head_dims)

        def part(carry: tuple, inputs: tuple) -> tuple[tuple, Array]:
            nats_sum, z_sum, head_slope = carry
            x, targets, weights = inputs
            logits = self._logits(x, gathered)
            nats, log_z = next_token_nats(logits, targets)
            softmax = jnp.exp(logits - log_z[..., None])
            pull = (1 + 2 * z_loss_weight * log_z)[..., None] * softmax
            slope = pull - _is_target(logits, targets).astype(pull.dtype)
            slope = _weighed(slope, weights) * (scale * self.multiplier)
            slope = slope.astype(x.dtype)
            x_slope = jnp.einsum(
                "btv,dv->btd", slope, gathered, out_sharding=P(*self.layout.act("btd"))
            )
            head_slope += jnp.einsum(
                "btd,btv->dv",
                x,
                slope,
                preferred_element_type=jnp.float32,
                out_sharding=head_sum,
            )
            nats, squares = _weighed(nats, weights), _weighed(log_z**2, weights)
            nats_sum += jax.lax.reduce_sum(nats, (0, 1), out_sharding=scalar)
            z_sum += jax.lax.reduce_sum(squares, (0, 1), out_sharding=scalar)
            return (nats_sum, z_sum, head_slope), x_slope

        zero = _zeros_like(z_loss_weight, scalar)
        zeros = zero, zero, _zeros_like(gathered.astype(jnp.float32), head_sum)
        sums, slopes = self._over_parts(part, zeros, (x, targets, weights))
        closed = P(), P(), P(*self.head_dims)
        nats_sum, z_sum, head_slope = map(jax.sharding.reshard, sums, closed)
        plain = scale * nats_sum
        losses = (plain + z_loss_weight * scale * z_sum, plain)
        return losses, (slopes, head_slope.astype(head.dtype))

    def _gathered(self, head: Array, dtype: jnp.dtype) -> Array:
        """The head in the compute dtype, whole but for the vocabulary: gathered once."""
        return jax.sharding.reshard(head.astype(dtype), P(None, self.layout.act("v")[0]))

    def _logits(self, x: Array, gathered: Array) -> Array:
        logits = jnp.einsum(
            "btd,dv->btv",
            x,
            gathered,
            preferred_element_type=jnp.float32,
            out_sharding=P(*self.layout.act("btv")),
        )
        logits = logits * self.multiplier
        if self.mask_id is None:
            return logits
        ids = jnp.arange(logits.shape[-1])[None, None]
        return jnp.where(ids == self.mask_id, -jnp.inf, logits)

    def _over_parts(self, part: Callable, carry: Any, inputs: tuple) -> tuple[Any, Array]:
        """(last carry, results of all positions), as of a scan over parts of the positions."""
        if self.n_chunks == 1:
            return part(carry, inputs)
        carry, parts = jax.lax.scan(part, carry, jax.tree.map(self._split, inputs))
        return carry, self._joined(parts)

    def _split(self, a: Array) -> Array:
        """[B, T, ...] -> [n_chunks, B, T/n_chunks, ...]; each part has positions of each device."""
        batch, length, *rest = a.shape
        axes = jax.typeof(a).sharding.spec
        shape = (batch, length // self.n_chunks, self.n_chunks, *rest)
        parts = jax.lax.reshape(a, shape, out_sharding=P(*axes[:2], None, *axes[2:]))
        return jnp.moveaxis(parts, 2, 0)

    def _joined(self, a: Array) -> Array:
        n_chunks, batch, length, *rest = a.shape
        axes = jax.typeof(a).sharding.spec
        shape = (batch, length * n_chunks, *rest)
        return jax.lax.reshape(jnp.moveaxis(a, 0, 2), shape, out_sharding=P(*axes[1:]))


def _zeros_like(a: Array, spec: P) -> Array:
    """Of a pack's array the zeros of each run: of zeros that all runs share JAX (0.10.2) makes no
    open sum of each."""
    return jax.sharding.reshard(jnp.where(False, a, 0), spec)


def _weighed(a: Array, weights: Array | None) -> Array:
    """[B, T, ...] by the weight of each position."""
    return a if weights is None else a * weights.reshape(weights.shape + (1,) * (a.ndim - 2))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(head: LinearHead, *arguments: Any) -> tuple:
    return head.loss_and_gradients(*arguments)[0]


def _loss_backward(head: LinearHead, slopes: tuple[Array, Array], cotangents: tuple) -> tuple:
    factor = cotangents[0]
    x_slope, head_slope = (slope * factor.astype(slope.dtype) for slope in slopes)
    return x_slope, head_slope, None, None, None


_loss.defvjp(LinearHead.loss_and_gradients, _loss_backward)
