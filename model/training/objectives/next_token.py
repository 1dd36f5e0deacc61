# SPDX-License-Identifier: Apache-2.0
"""Next-token prediction."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def next_token_nats(
    logits: Float[Array, "B L V"], targets: Int[Array, "B L"]
) -> tuple[Float[Array, "B L"], Float[Array, "B L"]]:
    """Cross-entropy of every target in nats, and log Z of its softmax for the z-loss.

    nats = log Z - logit[target]. The target's logit is picked by a masked sum, not by a gather,
    so that a vocabulary split over the mesh needs one reduction and no exchange of logits.
    """
    log_z = jax.nn.logsumexp(logits, axis=-1)
    ids = jnp.arange(logits.shape[-1], dtype=targets.dtype)[None, None]
    is_target = targets[..., None] == ids
    return log_z - jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1), log_z
