# SPDX-License-Identifier: Apache-2.0
"""A stand-in for a network: the logits of every state of a window are a table."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from small_networks import LLAMA

from model.network.sharding import FSDP_TENSOR
from model.network.transformer import Transformer

V, T = 3, 4
MASK = V
TEXTS = tuple(itertools.product(range(V), repeat=T))
STATES = tuple(itertools.product(range(V + 1), repeat=T))
# Of every state the logits of each token, the mask's too, at each position.
LOGITS = 1.5 * np.random.default_rng(0).normal(size=(len(STATES), T, V + 1))


def log_p(state: tuple[int, ...]) -> np.ndarray:
    """[T, V]: of each token at each position, the mask having no probability."""
    logits = LOGITS[STATES.index(state)][:, :V]
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


class TableNetwork(Transformer):
    """What an objective asks of a network; the features are the logits."""

    config = replace(LLAMA, vocab_size=V + 1, seq_len=T)
    layout = FSDP_TENSOR

    def __init__(self):
        pass

    def features(self, tokens, context):
        assert not context.is_causal
        place = tokens @ (V + 1) ** jnp.arange(T - 1, -1, -1)
        logits = jnp.asarray(LOGITS, jnp.float32)[place]
        return jax.sharding.reshard(logits, P(*self.layout.act("btd"))), {}

    def head(self):
        return jnp.eye(V + 1)
