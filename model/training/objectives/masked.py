# SPDX-License-Identifier: Apache-2.0
"""Masked language modelling: hidden tokens are guessed from all that are not (Devlin et al. 2018,
arXiv:1810.04805, sec. 3.1).

Every hidden token becomes the mask, the last id of the network, which is itself never guessed; none
stays or is replaced by another one (their 80-10-10 rule: Wettig et al. 2022, arXiv:2202.08005,
sec. 5, find no gain in it).
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from model.network.config import ModelConfig
from model.network.context import Context
from model.network.layers import Said
from model.network.sharding import BATCH
from model.network.transformer import Transformer
from model.training.objectives.kinds import KINDS, Kind
from model.training.objectives.linear_head import LinearHead, placed_like
from model.training.objectives.objective import Batch, Measured, Minimised

# Of a validation window, whatever share training hides: so that runs of all shares compare.
EVALUATION_RATIO = 0.15
BOTH_SIDES = Context(is_causal=False)


class Masked:
    """Of each window [B, T + 1] the last T tokens: some of them are hidden, at random places.

    The loss is the mean nats of a hidden token. Training hides ``mask_ratio`` of a window.
    """

    kind: Kind = KINDS["masked"]

    def arrays(self, net: ModelConfig, batch_size: int) -> dict[str, tuple[tuple[int, ...], type]]:
        return {"tokens": ((batch_size, net.seq_len), jnp.int32)}

    def from_windows(
        self, windows: Int[np.ndarray, "*lead T1"]
    ) -> dict[str, Int[np.ndarray, "*lead T"]]:
        return {"tokens": windows[..., 1:]}

    def draw(
        self, batch: Batch, key: Key[Array, ""], hyper: Mapping[str, Shaped[Array, ""]]
    ) -> Batch:
        """With the weight of each position in the mean over all: 0 where it is not hidden."""
        n_rows, length = batch["tokens"].shape
        key_of_numbers, key_of_places = jax.random.split(key)
        n_hidden = self.n_to_train(key_of_numbers, n_rows, length, hyper)
        is_hidden = hide(n_hidden, jax.random.uniform(key_of_places, (n_rows, length)))
        weights = jnp.where(is_hidden, (length / n_hidden.astype(jnp.float32))[:, None], 0.0)
        return {**batch, "weights": jax.sharding.reshard(weights, P(BATCH, None))}

    def loss(
        self,
        network: Transformer,
        batch: Batch,
        hyper: Mapping[str, Shaped[Array, ""]],
        n_chunks: int,
    ) -> Minimised:
        tokens, weights = batch["tokens"], batch["weights"]
        x, said = features(network, tokens, weights > 0)
        tokens, weights = placed_like(tokens, x), placed_like(weights, x)
        head = _head(network, n_chunks)
        losses = head.loss(x, network.head(), tokens, hyper["z_loss_weight"], weights)
        return Minimised(*losses, said)

    def evaluate(
        self, network: Transformer, batch: Batch, numbers: Int[Array, " B"], n_chunks: int
    ) -> Measured:
        tokens = batch["tokens"]
        length = tokens.shape[1]
        n_hidden = self.n_to_evaluate(numbers, length)
        is_hidden = hide(n_hidden, jax.vmap(_places, in_axes=(0, None))(numbers, length))
        x, _ = features(network, tokens, is_hidden)
        nats = _head(network, n_chunks).nats(x, network.head(), placed_like(tokens, x))
        is_hidden = placed_like(is_hidden, x)
        return self.measured(jnp.where(is_hidden, nats, 0.0), is_hidden)

    def n_to_train(
        self,
        key: Key[Array, ""],
        n_rows: int,
        length: int,
        hyper: Mapping[str, Shaped[Array, ""]],
    ) -> Int[Array, " B"]:
        """How many tokens of each window of a batch are hidden."""
        return jnp.broadcast_to(_share(hyper["mask_ratio"], length), n_rows)

    def n_to_evaluate(self, numbers: Int[Array, " B"], length: int) -> Int[Array, " B"]:
        """The same of the windows of these numbers in the validation set."""
        return jnp.broadcast_to(_share(jnp.float32(EVALUATION_RATIO), length), numbers.shape)

    def measured(self, nats: Float[Array, "B T"], is_hidden: Bool[Array, "B T"]) -> Measured:
        """Of the nats of hidden tokens, 0 elsewhere."""
        return Measured(nats, is_hidden)


OBJECTIVE = Masked()


def hide(n_hidden: Int[Array, " B"], places: Float[Array, "B T"]) -> Bool[Array, "B T"]:
    """So many positions of each window; where ``places`` are uniform, all sets of them alike."""
    return jnp.argsort(places, axis=1) < n_hidden[:, None]


def _places(number: Int[Array, ""], length: int) -> Float[Array, " T"]:
    """Those of the validation window of this number."""
    return jax.random.uniform(jax.random.fold_in(jax.random.key(0), number), (length,))


def features(
    network: Transformer, tokens: Int[Array, "B T"], is_hidden: Bool[Array, "B T"]
) -> tuple[Float[Array, "B T D"], Said]:
    """What the head multiplies, of windows in which these tokens are hidden."""
    return network.features(jnp.where(is_hidden, mask_id(network.config), tokens), BOTH_SIDES)


def mask_id(net: ModelConfig) -> int:
    """The token that stands for a hidden one."""
    return net.vocab_size - 1


def _head(network: Transformer, n_chunks: int) -> LinearHead:
    net = network.config
    return LinearHead(net.logit_multiplier, n_chunks, network.layout, mask_id(net))


def _share(ratio: Float[Array, ""], length: int) -> Int[Array, ""]:
    """Of a window, rounded: one token at least."""
    return jnp.maximum(jnp.round(ratio * length), 1).astype(jnp.int32)
