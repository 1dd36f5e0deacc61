# SPDX-License-Identifier: Apache-2.0
"""Batches for training: a Grain pipeline over a corpus, resumable to the step.

Grain costs the same for an element of any size, so an element is a chunk of steps, which is one
gather. Its threads and prefetching are off: the data lie in memory, and handing an element over
costs more than making it.
"""

import bisect
from collections.abc import Iterator, Mapping, Sequence

import grain
import numpy as np
from jaxtyping import Int32

from model.data.corpus import Corpus

DataState = dict[str, int | str]
"""The next step, and what must not change for the continuation to be the same batches."""


def batches(
    corpus: Corpus,
    *,
    batch_size: int,
    seq_len: int,
    n_steps: int,
    seed: int,
    steps_per_chunk: int,
    process_index: int = 0,
    process_count: int = 1,
    stops: Sequence[int] = (),
) -> "BatchIterator":
    """This process's rows of the batches of steps 0..n_steps - 1, in order: chunks of S steps,
    [S, B/P, T+1].

    Process p of P gets rows [p B/P, (p+1) B/P) of the very batch that one process would get, so
    content depends on (data, seed, step) and batch size alone.

    Args:
      batch_size: B, windows per step over all processes; a multiple of process_count.
      seq_len: T, targets per window.
      steps_per_chunk: S; fewer before a stop or the end.
      stops: steps (evaluations, checkpoints) at which a chunk has to end, in [1, n_steps].

    Raises:
      ValueError: if a number is not legal, or the data do not hold one window.
    """
    _check(batch_size, n_steps, process_index, process_count, steps_per_chunk)
    if any(not 1 <= stop <= n_steps for stop in stops):
        raise ValueError(f"stops {list(stops)} must lie in [1, {n_steps}], the steps of the run.")
    corpus.n_windows(seq_len)
    n_rows = batch_size // process_count
    rows = _Rows(
        corpus=corpus,
        batch_size=batch_size,
        seq_len=seq_len,
        seed=seed,
        first_row=process_index * n_rows,
        n_rows=n_rows,
    )
    return BatchIterator(rows, n_steps, _chunk_ends(n_steps, steps_per_chunk, stops))


class BatchIterator(Iterator[Int32[np.ndarray, "S B T1"]]):
    """Iterates over chunks; its state says what comes next, in steps.

    The state is a JSON object: the next step, and what must not change for the continuation to
    be the same batches (fingerprint, seed, batch size, length). It names neither processes nor
    chunks, so a run may go on with another number of either.
    """

    def __init__(self, rows: "_Rows", n_steps: int, chunk_ends: Sequence[int]):
        self._rows = rows
        self._n_steps = n_steps
        self._chunk_ends = chunk_ends
        self._start(0)

    def __next__(self) -> Int32[np.ndarray, "S B T1"]:
        return next(self._iterator)

    def state_at(self, step: int) -> DataState:
        """The place before a step, for the checkpoint; JSON-able."""
        return {"next_step": step, **self._rows.identity()}

    def set_state(self, state: Mapping[str, object]) -> None:
        """Goes on at this place.

        Raises:
          ValueError: if the state is of other data, seed, batch size or length.
        """
        mine = self._rows.identity()
        other = {k: v for k, v in state.items() if k != "next_step"}
        next_step = state.get("next_step")
        if other != mine:
            changed = sorted(k for k in mine.keys() | other.keys() if mine.get(k) != other.get(k))
            raise ValueError(
                f"the saved data position differs in {', '.join(changed)}: it is "
                f"{[other.get(k) for k in changed]}, this run has {[mine.get(k) for k in changed]}."
                " Resume with the same study, or start the run anew."
            )
        if type(next_step) is not int or not 0 <= next_step <= self._n_steps:
            raise ValueError(
                f"the saved data position is step {next_step!r}: it must lie in "
                f"[0, {self._n_steps}]. Start the run anew."
            )
        self._start(next_step)

    def _start(self, step: int) -> None:
        dataset = grain.MapDataset.source(_Chunks(self._rows, step, self._chunk_ends))
        options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        self._iterator = iter(dataset.to_iter_dataset(options))


class _Rows:
    """This process's rows of the batch of any step."""

    def __init__(
        self,
        *,
        corpus: Corpus,
        batch_size: int,
        seq_len: int,
        seed: int,
        first_row: int,
        n_rows: int,
    ):
        self._corpus = corpus
        self._batch_size = batch_size
        self._window = {"seq_len": seq_len, "seed": seed}
        self._first_row = first_row
        self._n_rows = n_rows

    def identity(self) -> DataState:
        fingerprint = self._corpus.manifest.fingerprint
        return {"fingerprint": fingerprint, "batch_size": self._batch_size, **self._window}

    def of_steps(self, step: int, n_steps: int) -> Int32[np.ndarray, "S B T1"]:
        first = step * self._batch_size + self._first_row
        if self._n_rows < self._batch_size:
            places = range(first, first + n_steps * self._batch_size, self._batch_size)
            shares = [self._corpus.train_windows(p, self._n_rows, **self._window) for p in places]
            return np.stack(shares)
        # Whole batches of consecutive steps are consecutive windows: one gather for all.
        n = n_steps * self._batch_size
        windows = self._corpus.train_windows(first, n, **self._window)
        return windows.reshape(n_steps, self._batch_size, -1)


class _Chunks:
    """Grain's random-access source: element i is the i-th chunk from this step on."""

    def __init__(self, rows: _Rows, first_step: int, ends: Sequence[int]):
        self._rows = rows
        self._starts = [first_step, *ends[bisect.bisect_right(ends, first_step) :]]

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        start, end = self._starts[index : index + 2]
        return self._rows.of_steps(start, end - start)


def _chunk_ends(n_steps: int, steps_per_chunk: int, stops: Sequence[int]) -> list[int]:
    """Steps at which chunks end: at every stop, and between stops after each steps_per_chunk."""
    ends: list[int] = []
    start = 0
    for stop in sorted({*stops, n_steps}):
        ends += [*range(start + steps_per_chunk, stop, steps_per_chunk), stop]
        start = stop
    return ends


def _check(
    batch_size: int, n_steps: int, process_index: int, process_count: int, steps_per_chunk: int
) -> None:
    if min(batch_size, n_steps, steps_per_chunk) < 1:
        raise ValueError(
            f"batch_size {batch_size}, n_steps {n_steps} and steps_per_chunk {steps_per_chunk} "
            "must each be at least 1."
        )
    if not 0 <= process_index < process_count:
        raise ValueError(
            f"process_index {process_index} is out of range: there are {process_count} processes."
        )
    if batch_size % process_count:
        raise ValueError(
            f"batch_size {batch_size} does not divide over {process_count} processes: choose a "
            f"multiple of {process_count}."
        )
