# SPDX-License-Identifier: Apache-2.0
"""What absorbing diffusion writes: hidden tokens are drawn one at a time, in random order.

Its reverse process draws each token at a time of its own, all orders of these alike, from the
network's probabilities given what is there; a network that is not told the time has only the order
to know (Zheng et al. 2024, arXiv:2409.02908).
"""

import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, Key

from experiments.weights.draw import Sampled, Sampling, draw
from experiments.weights.load_model import LoadedModel
from model.training.objectives.masked import BOTH_SIDES, mask_id


def fill(model: LoadedModel, begin: Sequence[int], n_tokens: int, sampling: Sampling) -> Sampled:
    """The next ``n_tokens`` of a window that begins so; what is behind them stays hidden."""
    graphdef, params = nnx.split(model.network)
    net, first = model.network.config, len(begin)

    @jax.jit
    def step(params, tokens, place, key):
        logits, _ = nnx.merge(graphdef, params)(tokens, BOTH_SIDES)
        return fill_one(jax.sharding.reshard(logits, P()), tokens, place, key, sampling)

    key_of_order, key = jax.random.split(jax.random.key(sampling.seed))
    order = first + jax.random.permutation(key_of_order, n_tokens)
    keys = jax.random.split(key, n_tokens)
    hidden = [mask_id(net)] * (net.seq_len - first)
    with model.context():
        tokens = jnp.asarray([[*begin, *hidden]], jnp.int32)
        program = step.lower(params, tokens, order[:1], keys[0]).compile()
        seconds = []
        for place, own in zip(order, keys, strict=True):
            began = time.monotonic()
            tokens = program(params, tokens, place[None], own).block_until_ready()
            seconds.append(time.monotonic() - began)
    found = tokens[0, first : first + n_tokens].tolist()
    return Sampled(found, seconds[0], sum(seconds[1:]))


def fill_one(
    logits: Float[Array, "B T V"],
    tokens: Int[Array, "B T"],
    place: Int[Array, " B"],
    key: Key[Array, ""],
    sampling: Sampling,
) -> Int[Array, "B T"]:
    """The windows with a token drawn at a place of each; the mask, the last id, never is."""
    rows = jnp.arange(len(tokens))
    keys = jax.random.split(key, len(tokens))
    drawn = jax.vmap(lambda own, key: draw(own, key, sampling))(logits[rows, place, :-1], keys)
    return tokens.at[rows, place].set(drawn)
