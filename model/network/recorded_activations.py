# SPDX-License-Identifier: Apache-2.0
"""What a network computes on its way to the logits, to see how large it is."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from model.network.transformer import Transformer


def activations(model: Transformer, tokens: Int[Array, "B T"]) -> dict[str, Float[Array, "..."]]:
    """Activations of one forward pass, in float32.

    embedding [B, T, D]; mixer and channel_mixer [n_repeats, period, B, T, D], before the residual
    multiplier; residual [B, T, D], the stream after the last block; logits [B, T, V].
    """
    graphdef, stacked = nnx.split(model.blocks)

    def repeat(carry: tuple, state: nnx.State) -> tuple[tuple, dict[str, Array]]:
        x, shared = carry
        context = told._replace(shared=shared)
        found: dict[str, list[Array]] = {}
        for block in nnx.merge(graphdef, state):
            for name in block.branches:
                mixed, context, _ = block.branch(name, x, context)
                found.setdefault(name, []).append(mixed)
                x = x + block.multiplier * mixed
        return (x, context.shared), {name: jnp.stack(values) for name, values in found.items()}

    embedding, told, _ = model.begin(tokens)
    begin = embedding, model.shared_values(embedding)
    (residual, _), mixed = jax.lax.scan(repeat, begin, stacked)
    found = {"embedding": embedding, **mixed, "residual": residual, "logits": model(tokens)[0]}
    return {name: value.astype(jnp.float32) for name, value in found.items()}
