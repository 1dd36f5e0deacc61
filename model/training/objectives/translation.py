# SPDX-License-Identifier: Apache-2.0
"""Sequence to sequence: a target given its source (Sutskever et al. 2014, arXiv:1409.3215).

A window of T + 1 tokens is a source of S, as the encoder's configuration says, then the target: the
decoder is given tokens S to T - 1 and predicts S + 1 to T. No token of the source has a loss.
"""

import jax.numpy as jnp
from jaxtyping import Array, Int

from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.training.objectives.kinds import KINDS
from model.training.objectives.next_token import NextToken
from model.training.objectives.objective import Batch, Measured


class Translation(NextToken):
    """Every token of a target from its source and what is before it in the target; the loss is the
    mean nats of these. See NextToken."""

    kind = KINDS["translation"]

    def targets(self, net: ModelConfig, windows: Int[Array, "B T1"]) -> Int[Array, "B T_own"]:
        return windows[:, 1 + net.seq_len - net.n_positions :]

    def evaluate(
        self, network: Transformer, batch: Batch, numbers: Int[Array, " B"], n_chunks: int
    ) -> Measured:
        found = super().evaluate(network, batch, numbers, n_chunks)
        of_source = (0, 0), (network.config.seq_len - network.config.n_positions, 0)
        return Measured(jnp.pad(found.nats, of_source), jnp.pad(found.is_unit, of_source))


OBJECTIVE = Translation()
