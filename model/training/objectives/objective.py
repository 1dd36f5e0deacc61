# SPDX-License-Identifier: Apache-2.0
"""What a network is trained for: one file each, named in OBJECTIVES of training/config.py."""

import importlib
from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from model.network.config import ModelConfig
from model.network.layers import Said
from model.network.transformer import Transformer

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
    """

    nats: Float[Array, "B T"]
    is_unit: Bool[Array, "B T"]


@runtime_checkable
class Objective(Protocol):
    """What a network is trained for.

    Attributes:
      unit: what a loss is per, in one word.
      is_bound: whether it bounds the loss from above, and is not itself that.
      is_causal: whether a position sees only what is before it.
    """

    unit: str
    is_bound: bool
    is_causal: bool

    def arrays(self, net: ModelConfig, batch_size: int) -> dict[str, tuple[tuple[int, ...], type]]:
        """Shape and dtype of every array of a batch, its first axis the batch."""

    def from_windows(
        self, windows: Int[np.ndarray, "*lead T1"]
    ) -> dict[str, Shaped[np.ndarray, "..."]]:
        """These arrays, of windows of tokens on the host."""

    def loss(
        self,
        network: Transformer,
        batch: Batch,
        key: Key[Array, ""],
        hyper: Mapping[str, Shaped[Array, ""]],
        n_chunks: int,
    ) -> Minimised:
        """Of a training batch.

        Args:
          key: of this step; runs of one data seed draw the same.
          hyper: numbers of the run (training/optimizer.py).
          n_chunks: parts of the positions whose logits exist at a time.
        """

    def evaluate(
        self, network: Transformer, batch: Batch, key: Key[Array, ""], n_chunks: int
    ) -> Measured:
        """Of a batch for evaluation; ``key`` is the same at every evaluation."""


def objective(name: str) -> Objective:
    """The objective of this name: OBJECTIVE of the file."""
    return importlib.import_module(f"model.training.objectives.{name}").OBJECTIVE
