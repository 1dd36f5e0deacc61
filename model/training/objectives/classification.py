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
from model.training.objectives.linear_head import LinearHead, next_token_nats, placed_like
from model.training.objectives.next_token import NextToken
from model.training.objectives.objective import Batch, Measured, Minimised


class Classification(NextToken):
    """The loss is the mean nats of the class of an image; the z-loss is NextToken's."""

    kind = KINDS["classification"]

    def loss(
        self,
        network: Transformer,
        batch: Batch,
        hyper: Mapping[str, Shaped[Array, ""]],
        n_chunks: int,
    ) -> Minimised:
        windows = batch["tokens"]
        x, said = network.features(windows[:, 1:])
        targets = placed_like(_classes(network.config, windows), x)
        # An image has one position that is classified: nothing to do in parts.
        head = LinearHead(network.config.logit_multiplier, 1, network.layout)
        minimised, nats = head.loss(x, network.head(), targets, hyper["z_loss_weight"])
        return Minimised(minimised, nats, said)

    def evaluate(
        self, network: Transformer, batch: Batch, numbers: Int[Array, " B"], n_chunks: int
    ) -> Measured:
        windows = batch["tokens"]
        logits, _ = network(windows[:, 1:])
        targets = placed_like(_classes(network.config, windows), logits)
        nats, _ = next_token_nats(logits, targets)
        is_wrong = jnp.argmax(logits, axis=-1) != targets
        # The loss of an image is that of its first position.
        behind = (0, 0), (0, windows.shape[1] - 2)
        is_unit = jnp.ones_like(targets, dtype=bool)
        return Measured(*(jnp.pad(a, behind) for a in (nats, is_unit, is_wrong)))


OBJECTIVE = Classification()


def _classes(net: ModelConfig, windows: Int[Array, "B T1"]) -> Int[Array, "B 1"]:
    assert net.patches is not None
    return windows[:, :1] - net.patches.levels
