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
    """The next chunk of batches on the devices, and where in the data it begins.

    Attributes:
      positions: by run, for a checkpoint of the steps before this chunk.
      chunk: int32 [S, B, T+1], of a pack [R, S, B, T+1], of which the first ``n_steps`` of S count;
        None at the end.

    Args:
      positions: of a checkpoint to go on from, or None.
      stops: steps at which a chunk has to end.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        model: ModelConfig,
        configs: Sequence[TrainConfig],
        program: Program,
        *,
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
        self._program = program
        self.load()

    def load(self) -> None:
        self.positions = [run.get_state() for run in self._runs]
        # All end with the same step.
        chunks = [chunk for run in self._runs if (chunk := next(run, None)) is not None]
        self.n_steps, self.chunk = 0, None
        if chunks:
            self.n_steps = len(chunks[0])
            # With zeros behind the last step, so that one compiled shape serves all.
            shape = (self._program.batch_shape[0], *chunks[0].shape[1:])
            padded = np.zeros((len(chunks), *shape), np.int32)
            padded[:, : self.n_steps] = chunks
            self.chunk = self._program.put_rows(padded.reshape(self._program.lead + shape))
