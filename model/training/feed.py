# SPDX-License-Identifier: Apache-2.0
"""The tokens that a program trains on next."""

from collections.abc import Sequence

import numpy as np

from model.data.batches import BatchIterator, DataState, batches
from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.training.config import TrainConfig
from model.training.program import Program


class Feed:
    """A chunk of batches on the devices, and how much of it has been used.

    Attributes:
      chunk: arrays [S, B, ...], of a pack [R, S, B, ...]; the steps in it end at a stop, after
        ``steps_per_dispatch`` or with the run. None at the end.
      n_used, n_left: steps of the chunk.

    Args:
      step: to begin with.
      positions: of a checkpoint of this step, or None.
      stops: steps at which a chunk has to end.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        model: ModelConfig,
        configs: Sequence[TrainConfig],
        program: Program,
        *,
        step: int,
        positions: Sequence[DataState] | None,
        n_steps: int,
        stops: Sequence[int],
    ):
        n_rows = len(program.rows)
        self._runs: list[BatchIterator] = [
            batches(
                corpus,
                batch_size=config.batch_size,
                seq_len=model.seq_len,
                n_steps=n_steps,
                seed=config.data_seed,
                process_index=program.rows.start // n_rows,
                process_count=config.batch_size // n_rows,
                steps_per_chunk=program.execution.steps_per_dispatch,
                stops=stops,
            )
            for corpus, config in zip(corpora, configs, strict=True)
        ]
        for run, position in zip(self._runs, positions or (), strict=positions is not None):
            run.set_state(position)
        self._program, self._step = program, step
        self._load()

    @property
    def positions(self) -> list[DataState]:
        """By run, for a checkpoint of the steps before what is left."""
        return [run.state_at(self._step) for run in self._runs]

    def use(self, n: int) -> None:
        """``n`` more steps of the chunk are on their way; loads the next chunk when all are."""
        self._step += n
        self.n_used += n
        self.n_left -= n
        if not self.n_left:
            self._load()

    def _load(self) -> None:
        # All end with the same step.
        chunks = [chunk for run in self._runs if (chunk := next(run, None)) is not None]
        self.n_used, self.n_left, self.chunk = 0, 0, None
        if chunks:
            self.n_left = len(chunks[0])
            # With zeros behind the last step, so that one compiled shape serves all.
            shape = (self._program.n_chunk_steps, *chunks[0].shape[1:])
            padded = np.zeros((len(chunks), *shape), np.int32)
            padded[:, : self.n_left] = chunks
            self.chunk = self._program.put_rows(padded.reshape(self._program.lead + shape))
