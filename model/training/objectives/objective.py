# SPDX-License-Identifier: Apache-2.0
"""What a network is trained for: one file each, named in KINDS of objectives/kinds.py."""

import importlib
from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from model.network.config import ModelConfig
from model.network.layers import Said
from model.network.transformer import Transformer
from model.training.objectives.kinds import Kind

# By name, each array with the batch as its first axis.
Batch = Mapping[str, Shaped[Array, "..."]]


class Minimised(NamedTuple):
    """Of one batch.

    Attributes:
      objective: what is minimised; what the layers say is added to it by their weights.
      nats: the loss that is reported: mean nats per unit.
      said: what the layers had to say.
    """

    objective: Float[Array, ""]
    nats: Float[Array, ""]
    said: Said


class Measured(NamedTuple):
    """Of a batch for evaluation.

    Attributes:
      nats: at every position of each window; 0 where there is no unit.
      is_unit: where there is one.
      is_wrong: where it is not what the network thinks most probable; None where nobody asks.
    """

    nats: Float[Array, "B T"]
    is_unit: Bool[Array, "B T"]
    is_wrong: Bool[Array, "B T"] | None = None


@runtime_checkable
class Objective(Protocol):
    """What a network is trained for.

    Attributes:
      kind: what can be said of it without JAX.
    """

    kind: Kind

    def arrays(self, net: ModelConfig, batch_size: int) -> dict[str, tuple[tuple[int, ...], type]]:
        """Shape and dtype of every array of a batch, its first axis the batch."""

    def from_windows(
        self, windows: Int[np.ndarray, "*lead T1"]
    ) -> dict[str, Shaped[np.ndarray, "..."]]:
        """These arrays, of windows of tokens on the host."""

    def draw(
        self, batch: Batch, key: Key[Array, ""], hyper: Mapping[str, Shaped[Array, ""]]
    ) -> Batch:
        """The batch with all that is drawn of it, once, before it is computed in parts.

        Args:
          key: of this step; runs of one data seed draw the same.
          hyper: numbers of the run (training/optimizers/optimizer.py).
        """

    def loss(
        self,
        network: Transformer,
        batch: Batch,
        hyper: Mapping[str, Shaped[Array, ""]],
        n_chunks: int,
    ) -> Minimised:
        """Of a training batch, or of some of its rows, as ``draw`` gave them.

        Args:
          n_chunks: parts of the positions whose logits exist at a time.
        """

    def evaluate(
        self, network: Transformer, batch: Batch, numbers: Int[Array, " B"], n_chunks: int
    ) -> Measured:
        """Of a batch for evaluation.

        Args:
          numbers: which window of the validation set each is. What is drawn of a window depends on
            that alone: not on the step, nor on the windows beside it.
        """


def objective(name: str) -> Objective:
    """The objective of this name: OBJECTIVE of the file."""
    return importlib.import_module(f"model.training.objectives.{name}").OBJECTIVE
