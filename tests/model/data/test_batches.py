# SPDX-License-Identifier: Apache-2.0
"""The iterator gives the batches of the corpus, however it is cut, shared or interrupted."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from model.data.batches import BatchIterator, batches
from model.data.corpus import Corpus

N_STEPS = 23
RUN: dict[str, Any] = {"batch_size": 6, "seq_len": 16, "n_steps": N_STEPS, "seed": 11}


@pytest.fixture(params=["text_corpus", "zipf_corpus"])
def corpus(request: pytest.FixtureRequest) -> Corpus:
    return request.getfixturevalue(request.param)


def expected(corpus: Corpus) -> np.ndarray:
    """int32 [n_steps, B, L+1], one plain call per step."""
    B, window = RUN["batch_size"], {name: RUN[name] for name in ("seq_len", "seed")}
    return np.stack([corpus.train_windows(s * B, B, **window) for s in range(N_STEPS)])


@pytest.mark.parametrize(
    ("steps_per_chunk", "stops", "lengths"),
    [
        (1, (), [1] * 23),
        (8, (), [8, 8, 7]),
        (64, (), [23]),
        (8, (10, 20), [8, 2, 8, 2, 3]),
        (4, (23, 4, 9), [4, 4, 1, 4, 4, 4, 2]),
    ],
)
@pytest.mark.parametrize("process_count", [1, 2, 3, 6])
def test_chunks_are_consecutive_batches(
    corpus: Corpus, steps_per_chunk: int, stops: tuple, lengths: list, process_count: int
) -> None:
    cut = {"steps_per_chunk": steps_per_chunk, "stops": stops, "process_count": process_count}
    shares = [list(batches(corpus, **RUN, **cut, process_index=p)) for p in range(process_count)]
    assert [len(chunk) for chunk in shares[0]] == lengths
    assert shares[0][0].shape[1:] == (6 // process_count, 17)
    whole = np.concatenate([np.concatenate(share) for share in shares], axis=1)
    np.testing.assert_array_equal(whole, expected(corpus))


@pytest.mark.parametrize("steps_per_chunk", [1, 8])
def test_resumed_iterator_equals_uninterrupted(corpus: Corpus, steps_per_chunk: int) -> None:
    whole = expected(corpus)
    for n_done in range(N_STEPS + 1):
        first = batches(corpus, **RUN, steps_per_chunk=steps_per_chunk)
        state = json.loads(json.dumps(first.state_at(n_done)))
        resumed = batches(corpus, **RUN, steps_per_chunk=steps_per_chunk)
        next(resumed)
        resumed.set_state(state)
        rest = [*resumed]
        assert sum(map(len, rest)) == N_STEPS - n_done
        if rest:
            np.testing.assert_array_equal(np.concatenate(rest), whole[n_done:])


def test_run_may_go_on_with_other_chunks(corpus: Corpus) -> None:
    first = batches(corpus, **RUN, steps_per_chunk=5)
    done = [next(first), next(first)]
    second = batches(corpus, **RUN, steps_per_chunk=8, stops=(20,))
    second.set_state(first.state_at(10))
    rest = list(second)
    assert [len(chunk) for chunk in rest] == [6, 4, 3]
    np.testing.assert_array_equal(np.concatenate(done + rest), expected(corpus))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 12}, r"differs in seed: it is \[12\], this run has \[11\]"),
        ({"batch_size": 3, "seq_len": 8}, "differs in batch_size, seq_len"),
        ({"fingerprint": "0"}, "differs in fingerprint"),
        ({"next_step": 24}, r"step 24: it must lie in \[0, 23\]"),
        ({"next_step": True}, "step True"),
        ({"next_step": None}, "step None"),
    ],
)
def test_state_of_another_run_is_refused(corpus: Corpus, change: dict, message: str) -> None:
    iterator = batches(corpus, **RUN, steps_per_chunk=1)
    with pytest.raises(ValueError, match=message):
        iterator.set_state({**iterator.state_at(0), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size 0"),
        ({"n_steps": 0}, "n_steps 0"),
        ({"steps_per_chunk": 0}, "steps_per_chunk 0"),
        ({"stops": (24,)}, r"stops \[24\] must lie in \[1, 23\]"),
        ({"process_count": 4}, "batch_size 6 does not divide over 4 processes"),
        ({"process_index": 2, "process_count": 2}, "process_index 2 is out of range"),
        ({"seq_len": 10**6}, "seq_len"),
    ],
)
def test_bad_run_is_refused(text_corpus: Corpus, change: dict, message: str) -> None:
    make: Callable[..., BatchIterator] = batches
    with pytest.raises(ValueError, match=message):
        make(text_corpus, **{**RUN, "steps_per_chunk": 8, **change})
