# SPDX-License-Identifier: Apache-2.0
"""Classification: the class of an image, which is seen whole.

A window of T + 1 tokens is the id of the class, behind the levels, and the T values of the image.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Int, Shaped

from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.training.objectives.kinds import KINDS
from model.training.objectives.linear_head import next_token_nats, placed_like
from model.training.objectives.next_token import NextToken
from model.training.objectives.objective import Batch, Measured, Minimised


class Classification(NextToken):
    """The loss is the mean nats of the class of an image; the z-loss is NextToken's."""

    kind = KINDS["classification"]

    def inputs(self, windows: Int[Array, "B T1"]) -> Int[Array, "B T"]:
        return windows[:, 1:]

    def targets(self, net: ModelConfig, windows: Int[Array, "B T1"]) -> Int[Array, "B 1"]:
        assert net.patches is not None
        return windows[:, :1] - net.patches.levels

    def loss(
        self,
        network: Transformer,
        batch: Batch,
        hyper: Mapping[str, Shaped[Array, ""]],
        n_chunks: int,
    ) -> Minimised:
        # An image has one position that is classified: nothing to do in parts.
        return super().loss(network, batch, hyper, 1)

    def evaluate(
        self, network: Transformer, batch: Batch, numbers: Int[Array, " B"], n_chunks: int
    ) -> Measured:
        windows = batch["tokens"]
        logits, _ = network(self.inputs(windows))
        targets = placed_like(self.targets(network.config, windows), logits)
        nats, _ = next_token_nats(logits, targets)
        is_wrong = jnp.argmax(logits, axis=-1) != targets
        # The loss of an image is that of its first position.
        behind = (0, 0), (0, windows.shape[1] - 2)
        is_unit = jnp.ones_like(targets, dtype=bool)
        return Measured(*(jnp.pad(a, behind) for a in (nats, is_unit, is_wrong)))


OBJECTIVE = Classification()
