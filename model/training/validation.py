# SPDX-License-Identifier: Apache-2.0
"""The loss on a fixed set of validation windows."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from model.config import ModelConfig
from model.data.corpus import Corpus
from model.training.config import EvalConfig
from model.training.step import Program

# Windows per evaluation step, rounded up to what the mesh divides: bounds memory; sums are
# weighted, so no loss moves.
EVAL_BATCH = 32


class Validation:
    """The fixed validation windows on the mesh, in batches, the last one padded by weight 0.

    Attributes:
      oracle_loss_nats: the true source's loss on the same tokens, where it is known.
    """

    def __init__(
        self, corpus: Corpus, model: ModelConfig, evaluation: EvalConfig, program: Program
    ):
        windows = corpus.validation_windows(evaluation.n_tokens, model.seq_len, evaluation.seed)
        self.oracle_loss_nats = corpus.oracle_loss_nats(windows)
        self.program, self.seq_len = program, model.seq_len
        self.batch = -(-EVAL_BATCH // program.n_batch_shards) * program.n_batch_shards
        shape = (-(-len(windows) // self.batch), self.batch)
        padded = np.zeros((shape[0] * self.batch, model.seq_len + 1), np.int32)
        padded[: len(windows)] = windows
        self.windows = program.put(padded.reshape(*shape, -1))

    def loss(self, params: Any, n_tokens: int) -> float:
        """Nats per token over the first ``n_tokens``, rounded up to whole windows."""
        n_windows = -(-n_tokens // self.seq_len)
        return self._nats(params, n_windows) / (n_windows * self.seq_len)

    def compile(self, params: Any) -> None:
        """Compiles the evaluation by asking for the loss of nothing."""
        self._nats(params, 0)

    def _nats(self, params: Any, n_windows: int) -> float:
        shape = self.windows.shape[:2]
        weights = (np.arange(shape[0] * shape[1]) < n_windows).astype(np.float32).reshape(shape)
        # The number of batches is traced: the curve's subset and the whole share one program.
        n_batches = jnp.int32(-(-n_windows // self.batch))
        nats = self.program.evaluate(params, self.windows, self.program.put(weights), n_batches)
        return float(nats)
