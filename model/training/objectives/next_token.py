# SPDX-License-Identifier: Apache-2.0
"""Next-token prediction."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, Shaped

from model.data.document_windows import NO_TARGET
from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.training.objectives.kinds import KINDS
from model.training.objectives.linear_head import LinearHead, placed_like
from model.training.objectives.objective import Batch, Measured, Minimised


class NextToken:
    """Every token from those before it in its window [B, T + 1]: inputs [:, :-1], targets [:, 1:];
    for evaluation NO_TARGET is none.

    With ``z_loss_weight`` mean (log Z)^2 is minimised beside the mean nats (PaLM, arXiv:2204.02311,
    sec. 5), which the reported loss does not contain.
    """

    kind = KINDS["next_token"]

    def arrays(self, net: ModelConfig, batch_size: int) -> dict[str, tuple[tuple[int, ...], type]]:
        return {"tokens": ((batch_size, net.seq_len + 1), jnp.int32)}

    def from_windows(
        self, windows: Int[np.ndarray, "*lead T1"]
    ) -> dict[str, Int[np.ndarray, "*lead T1"]]:
        return {"tokens": windows}

    def draw(
        self, batch: Batch, key: Key[Array, ""], hyper: Mapping[str, Shaped[Array, ""]]
    ) -> Batch:
        return batch

    def inputs(self, windows: Int[Array, "B T1"]) -> Int[Array, "B T"]:
        """What the network is given."""
        return windows[:, :-1]

    def targets(self, net: ModelConfig, windows: Int[Array, "B T1"]) -> Int[Array, "B T_own"]:
        """The token that each position of the blocks predicts."""
        return windows[:, 1:]

    def loss(
        self,
        network: Transformer,
        batch: Batch,
        hyper: Mapping[str, Shaped[Array, ""]],
        n_chunks: int,
    ) -> Minimised:
        windows = batch["tokens"]
        x, said = network.features(self.inputs(windows))
        targets = placed_like(self.targets(network.config, windows), x)
        head = LinearHead(network.config.logit_multiplier, n_chunks, network.layout)
        minimised, nats = head.loss(x, network.head(), targets, hyper["z_loss_weight"])
        return Minimised(minimised, nats, said)

    def evaluate(
        self, network: Transformer, batch: Batch, numbers: Int[Array, " B"], n_chunks: int
    ) -> Measured:
        windows = batch["tokens"]
        # No position sees what is behind it: any token may stand behind the end of a document.
        x, _ = network.features(jnp.maximum(self.inputs(windows), 0))
        targets = placed_like(self.targets(network.config, windows), x)
        head = LinearHead(network.config.logit_multiplier, n_chunks, network.layout)
        nats, is_target = head.nats(x, network.head(), targets), targets != NO_TARGET
        return Measured(jnp.where(is_target, nats, 0.0), is_target)


OBJECTIVE = NextToken()
