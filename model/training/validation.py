# SPDX-License-Identifier: Apache-2.0
"""The loss on a fixed set of validation windows."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Int32

from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.training.config import EvalConfig
from model.training.program import Program


class Measured(NamedTuple):
    """A loss in nats per token, and its standard error over the windows: how far it may lie from
    the loss on all text of the source, were each window drawn by itself; None of one window."""

    loss_nats: float
    se_nats: float | None


def measured(total: float, squares: float, n: int, seq_len: int) -> Measured:
    """Of ``n`` windows of so many tokens, from the sums of their nats and of the squares."""
    error = None
    if n > 1:
        # Of windows that are alike, rounding may leave less than nothing.
        variance = max((squares - total**2 / n) / (n - 1), 0.0)
        error = math.sqrt(variance / n) / seq_len
    return Measured(loss_nats=total / (n * seq_len), se_nats=error)


def validation_windows(
    corpora: Sequence[Corpus], model: ModelConfig, evaluations: Sequence[EvalConfig]
) -> tuple[Int32[np.ndarray, "R n T1"], list[float | None]]:
    """Of each run its fixed windows, and the true source's loss on them in nats, where it is known.

    Args:
      corpora, evaluations: of each run; all evaluations ask for equally many tokens.
    """
    # What runs have in common is made once.
    made: dict[tuple[int, int], tuple[np.ndarray, float | None]] = {}
    keys = [(id(c), e.seed) for c, e in zip(corpora, evaluations, strict=True)]
    for key, corpus, evaluation in zip(keys, corpora, evaluations, strict=True):
        if key not in made:
            windows = corpus.validation_windows(evaluation.n_tokens, model.seq_len, evaluation.seed)
            made[key] = windows, corpus.oracle_loss_nats(windows)
    return np.stack([made[key][0] for key in keys]), [made[key][1] for key in keys]


class Validation:
    """Windows on the mesh, in batches, the last one padded by weight 0.

    Args:
      windows: of each run.
    """

    def __init__(self, windows: Int32[np.ndarray, "R n T1"], program: Program):
        n_runs, n_windows, length = windows.shape
        self.program, self.seq_len = program, length - 1
        self.shape = program.eval_shape(n_windows)
        padded = np.zeros((n_runs, math.prod(self.shape), length), np.int32)
        padded[:, :n_windows] = windows
        self.windows = program.put(padded.reshape(*program.lead, *self.shape, -1))

    def losses(self, params: nnx.State, n_tokens: int) -> list[Measured]:
        """The loss of each run over the first ``n_tokens``, rounded up to whole windows."""
        n = -(-n_tokens // self.seq_len)
        sums = np.reshape(self.sums(params, n), (2, self.program.n_runs)).astype(float)
        return [measured(total, squares, n, self.seq_len) for total, squares in sums.T.tolist()]

    def compile(self, params: nnx.State) -> None:
        """Compiles the evaluation by asking for the loss of nothing."""
        self.sums(params, 0)

    def sums(self, params: nnx.State, n_windows: int) -> tuple[jax.Array, jax.Array]:
        """Over so many windows, of their nats, and of the squares of those; by run."""
        weights = (np.arange(math.prod(self.shape)) < n_windows).astype(np.float32)
        weights = np.broadcast_to(weights.reshape(self.shape), self.program.lead + self.shape)
        # The number of batches is traced: the curve's subset and the whole share one program.
        n_batches = jnp.int32(-(-n_windows // self.shape[1]))
        put = self.program.put(weights)
        return self.program.evaluate(params, self.windows, put, n_batches)
