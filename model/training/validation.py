# SPDX-License-Identifier: Apache-2.0
"""The loss on a fixed set of validation windows, of all and of each of their domains."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool, Int32

from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.training.config import EvalConfig
from model.training.outcome import ALL, Loss
from model.training.program import Program
from model.training.step import Sums


class ValidationWindows(NamedTuple):
    """What the runs of a pack are evaluated on.

    Attributes:
      windows: of each run.
      members: by domain, which of them it has; ALL has all.
      oracle_losses: the true source's loss on them in nats, where it is known.
    """

    windows: Int32[np.ndarray, "R n T1"]
    members: dict[str, Bool[np.ndarray, "R n"]]
    oracle_losses: list[float | None]


def validation_windows(
    corpora: Sequence[Corpus], model: ModelConfig, evaluations: Sequence[EvalConfig]
) -> ValidationWindows:
    """The fixed windows of each run.

    Args:
      corpora, evaluations: of each run; all evaluations ask for equally many tokens, and all
        corpora have the same domains.
    """
    # What runs have in common is made once.
    made: dict[tuple[int, int], tuple[np.ndarray, dict[str, np.ndarray], float | None]] = {}
    keys = [(id(c), e.seed) for c, e in zip(corpora, evaluations, strict=True)]
    for key, corpus, evaluation in zip(keys, corpora, evaluations, strict=True):
        if key not in made:
            asked = evaluation.n_tokens, model.seq_len, evaluation.seed
            windows = corpus.validation_windows(*asked)
            domains = {ALL: np.ones(len(windows), bool), **corpus.validation_domains(*asked)}
            made[key] = windows, domains, corpus.oracle_loss_nats(windows)
    found = [made[key] for key in keys]
    return ValidationWindows(
        windows=np.stack([windows for windows, _, _ in found]),
        members={
            name: np.stack([domains[name] for _, domains, _ in found]) for name in found[0][1]
        },
        oracle_losses=[oracle for _, _, oracle in found],
    )


class Validation:
    """Windows on the mesh, in batches, the last one padded by weight 0.

    Args:
      windows: of each run.
      members: by domain, which of the windows it has.
      bytes_per_token: of text; None where that has no meaning.
    """

    def __init__(
        self,
        windows: Int32[np.ndarray, "R n T1"],
        members: Mapping[str, Bool[np.ndarray, "R n"]],
        program: Program,
        bytes_per_token: float | None,
    ):
        n_runs, n_windows, length = windows.shape
        self.program, self.seq_len = program, length - 1
        self.names, self.bytes_per_token = tuple(members), bytes_per_token
        self.shape = program.eval_shape(n_windows)
        n_padded = math.prod(self.shape)
        padded = np.zeros((n_runs, n_padded, length), np.int32)
        padded[:, :n_windows] = windows
        self.windows = program.put(padded.reshape(*program.lead, *self.shape, -1))
        self.members = np.zeros((n_runs, len(members), n_padded), bool)
        self.members[:, :, :n_windows] = np.stack([*members.values()], axis=1)

    def losses(self, params: nnx.State, n_tokens: int) -> list[dict[str, Loss]]:
        """By run, the losses over the first ``n_tokens``, rounded up to whole windows; of domains
        that have any of these."""
        n = -(-n_tokens // self.seq_len)
        sums = [
            np.reshape(column, (self.program.n_runs, -1)).astype(float).tolist()
            for column in self.sums(params, n)
        ]
        n_windows = self.members[:, :, :n].sum(axis=-1).tolist()
        return [
            {
                name: self.loss(nats, squares, n_units, n)
                for name, nats, squares, n_units, n in zip(self.names, *columns, strict=True)
                if n
            }
            for columns in zip(*sums, n_windows, strict=True)
        ]

    def loss(self, nats: float, squares: float, n_units: float, n_windows: int) -> Loss:
        """From sums over so many windows."""
        error = None
        if n_windows > 1:
            # Of windows that are alike, rounding may leave less than nothing.
            variance = max((squares - nats**2 / n_windows) / (n_windows - 1), 0.0)
            error = math.sqrt(variance / n_windows) / (n_units / n_windows)
        n_bytes = None if self.bytes_per_token is None else n_units * self.bytes_per_token
        return Loss(
            nats=nats / n_units,
            se_nats=error,
            n_units=round(n_units),
            n_bytes=n_bytes,
            is_bound=self.program.objective.is_bound,
        )

    def compile(self, params: nnx.State) -> None:
        """Compiles the evaluation by asking for the loss of nothing."""
        self.sums(params, 0)

    def sums(self, params: nnx.State, n_windows: int) -> Sums:
        """Over so many windows, on the host: by run and domain."""
        is_asked = np.arange(math.prod(self.shape)) < n_windows
        weights = (self.members & is_asked).astype(np.float32)
        shape = (*self.program.lead, len(self.names), *self.shape)
        # The number of batches is traced: the curve's subset and the whole share one program.
        n_batches = jnp.int32(-(-n_windows // self.shape[1]))
        put = self.program.put_weights(weights.reshape(shape))
        return jax.device_get(self.program.evaluate(params, self.windows, put, n_batches))
