# SPDX-License-Identifier: Apache-2.0
"""The loss on a fixed set of validation windows."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.training.config import EvalConfig
from model.training.program import Program


class Measured(NamedTuple):
    """A loss in nats per token, and its standard error over the windows: how far it may lie from
    the loss on all text of the source, were each window drawn by itself; None of one window."""

    loss_nats: float
    se_nats: float | None


class Validation:
    """The fixed validation windows on the mesh, in batches, the last one padded by weight 0.

    Attributes:
      oracle_losses: by run, the true source's loss on the same tokens in nats, where it is known.

    Args:
      corpora, evaluations: of each run; all evaluations ask for equally many tokens.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        model: ModelConfig,
        evaluations: Sequence[EvalConfig],
        program: Program,
    ):
        self.program, self.seq_len = program, model.seq_len
        # What runs have in common is made once.
        made: dict[tuple[int, int], tuple[np.ndarray, float | None]] = {}
        keys = [(id(c), e.seed) for c, e in zip(corpora, evaluations, strict=True)]
        for key, corpus, evaluation in zip(keys, corpora, evaluations, strict=True):
            if key not in made:
                windows = corpus.validation_windows(
                    evaluation.n_tokens, model.seq_len, evaluation.seed
                )
                made[key] = windows, corpus.oracle_loss_nats(windows)
        self.oracle_losses = [made[key][1] for key in keys]
        n_windows = len(made[keys[0]][0])
        self.shape = program.eval_shape(n_windows)
        padded = np.zeros((len(keys), math.prod(self.shape), model.seq_len + 1), np.int32)
        padded[:, :n_windows] = [made[key][0] for key in keys]
        self.windows = program.put(padded.reshape(*program.lead, *self.shape, -1))

    def losses(self, params: nnx.State, n_tokens: int) -> list[Measured]:
        """The loss of each run over the first ``n_tokens``, rounded up to whole windows."""
        n = -(-n_tokens // self.seq_len)
        sums = np.reshape(self._sums(params, n), (2, self.program.n_runs)).astype(float)
        return [self._measured(total, squares, n) for total, squares in sums.T.tolist()]

    def _measured(self, total: float, squares: float, n: int) -> Measured:
        error = None
        if n > 1:
            # Of windows that are alike, rounding may leave less than nothing.
            variance = max((squares - total**2 / n) / (n - 1), 0.0)
            error = math.sqrt(variance / n) / self.seq_len
        return Measured(loss_nats=total / (n * self.seq_len), se_nats=error)

    def compile(self, params: nnx.State) -> None:
        """Compiles the evaluation by asking for the loss of nothing."""
        self._sums(params, 0)

    def _sums(self, params: nnx.State, n_windows: int) -> tuple[jax.Array, jax.Array]:
        weights = (np.arange(math.prod(self.shape)) < n_windows).astype(np.float32)
        weights = np.broadcast_to(weights.reshape(self.shape), self.program.lead + self.shape)
        # The number of batches is traced: the curve's subset and the whole share one program.
        n_batches = jnp.int32(-(-n_windows // self.shape[1]))
        put = self.program.put(weights)
        return self.program.evaluate(params, self.windows, put, n_batches)
