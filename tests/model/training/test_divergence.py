# SPDX-License-Identifier: Apache-2.0
"""A run that leaves the finite numbers ends with its first bad step, however it was executed."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import jax
import numpy as np
import pytest

from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.network.execution import Execution
from model.training import loop
from model.training.checkpoints.checkpoint import Checkpoints
from model.training.compile_program import compile_program
from model.training.config import ROLES, TrainConfig
from model.training.loop import train_pack
from model.training.outcome import Progress, TrainResult
from model.training.program import Program
from model.training.step import TrainState

UNSAID = 12


class Poisoned(Corpus):
    """A corpus with one token that the language never says, and whose embedding is infinite.

    Args:
      corpus: all other windows.
      train_step: the step (from 1) of batch size 8 that reads it; 0 for none.
      validation_window: likewise, or None.
    """

    def __init__(
        self, corpus: Corpus, *, train_step: int = 0, validation_window: int | None = None
    ):
        super().__init__(corpus.manifest)
        self.corpus, self.place = corpus, (train_step - 1) * 8 + 3
        self.validation_window = validation_window

    def train_windows(self, first: int, n: int, *, seq_len: int, seed: int) -> np.ndarray:
        windows = self.corpus.train_windows(first, n, seq_len=seq_len, seed=seed)
        if first <= self.place < first + n:
            windows[self.place - first, 5] = UNSAID
        return windows

    def validation_windows(self, n_tokens: int, seq_len: int, seed: int) -> np.ndarray:
        windows = self.corpus.validation_windows(n_tokens, seq_len, seed)
        if self.validation_window is not None:
            windows[self.validation_window, 5] = UNSAID
        return windows

    def n_windows(self, seq_len: int) -> None:
        self.corpus.n_windows(seq_len)


class Interrupted(Exception):
    """Stands for whatever ends a process."""


def compile_with_infinite_embedding(*arguments: object, **options: object) -> Program:
    """The program of a network, but the embedding of ``UNSAID`` begins at infinity."""
    program = compile_program(*arguments, **options)

    def poison(path: tuple, leaf: jax.Array) -> jax.Array:
        value = np.array(leaf)
        if "tokens_vd" in jax.tree_util.keystr(path):
            value[UNSAID] = np.inf
        return jax.device_put(value, leaf.sharding)

    def init(key: jax.Array, hyper: dict) -> TrainState:
        state = program.init(key, hyper)
        return state._replace(params=jax.tree_util.tree_map_with_path(poison, state.params))

    return replace(program, init=init)


@pytest.fixture(autouse=True)
def infinite_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "compile_program", compile_with_infinite_embedding)


@pytest.fixture(scope="module")
def run(network_config: ModelConfig) -> Callable:
    """Trains, interrupted at the steps of ``stops`` in turn; the result."""

    def run(
        config: TrainConfig,
        corpus: Corpus,
        folder: Path | None = None,
        *,
        stops: tuple[int, ...] = (),
        steps_per_dispatch: int = 32,
    ) -> TrainResult:
        options = {"execution": Execution(steps_per_dispatch=steps_per_dispatch)}
        if folder is not None:
            options |= {"checkpoints": Checkpoints(folder), "checkpoint_seconds": 0.0}
        for stop in stops:

            def interrupt(progress: tuple[Progress, ...], stop: int = stop) -> None:
                if progress[0].step == stop:
                    raise Interrupted

            with pytest.raises(Interrupted):
                train_pack(network_config, (config,), corpus, on_progress=interrupt, **options)
        return train_pack(network_config, (config,), corpus, **options)[0]

    return run


def record(result: TrainResult) -> dict:
    """What goes into a table of runs; JSON without NaN or infinity."""
    how = {"resumed_at", "notes", "execution", "n_timed_steps", "seconds"}
    values = {name: value for name, value in asdict(result).items() if name not in how}
    json.dumps(values, allow_nan=False)
    return values


@pytest.fixture
def config(train_config: TrainConfig) -> TrainConfig:
    """The run of 20 steps, with a curve at 4, 8, 12, 16 and 20."""
    return replace(train_config, evaluation=replace(train_config.evaluation, n_points=5))


# A step in the middle of a chunk, at the end of one, at an evaluation step, right behind one,
# the first and the last.
@pytest.mark.parametrize("step", [1, 4, 5, 7, 14, 20])
def test_the_first_step_with_a_bad_loss_ends_the_run_whatever_the_chunks(
    run: Callable, config: TrainConfig, corpus: Corpus, step: int
) -> None:
    poisoned = Poisoned(corpus, train_step=step)
    results = [run(config, poisoned, steps_per_dispatch=k) for k in (7, 32)]
    expected = record(results[0])
    assert (expected["status"], expected["losses"]) == ("diverged", {})
    assert expected["reason"] == f"training loss is not finite at step {step}"
    assert (expected["n_steps"], expected["n_tokens"]) == (step, 128 * step)
    assert [point["step"] for point in expected["curve"]] == list(range(4, step, 4))
    assert expected["params_sha256"] == ""
    assert [record(result) for result in results] == [expected] * 2


@pytest.mark.parametrize("stops", [(4,), (8, 12), (12, 12)], ids=str)
def test_a_diverged_run_leaves_the_same_record_when_it_was_interrupted(
    run: Callable, config: TrainConfig, corpus: Corpus, tmp_path: Path, stops: tuple
) -> None:
    poisoned = Poisoned(corpus, train_step=14)
    result = run(config, poisoned, tmp_path, stops=stops)
    assert result.resumed_at == stops[-1] - 4
    assert Checkpoints(tmp_path).steps() == [12, 8]  # It ends there and saves nothing bad.
    assert record(result) == record(run(config, poisoned))


def test_a_huge_learning_rate_diverges(
    run: Callable, config: TrainConfig, corpus: Corpus, tmp_path: Path
) -> None:
    optimizer = config.optimizer
    for role in ROLES:
        group = replace(getattr(optimizer, role), learning_rate=1e9, weight_decay=0.0)
        optimizer = replace(optimizer, **{role: group})
    wild = replace(config, optimizer=optimizer)
    results = [run(wild, corpus, steps_per_dispatch=k) for k in (7, 32)]
    results.append(run(wild, corpus, tmp_path))
    expected = record(results[0])
    assert (expected["status"], expected["losses"]) == ("diverged", {})
    assert expected["reason"] == f"training loss is not finite at step {expected['n_steps']}"
    assert [record(result) for result in results] == [expected] * 3


def test_a_validation_loss_that_is_not_finite_marks_the_run_even_after_a_resume(
    run: Callable, config: TrainConfig, corpus: Corpus, tmp_path: Path
) -> None:
    poisoned = Poisoned(corpus, validation_window=2)
    result = run(config, poisoned, tmp_path, stops=(12,))
    assert result.resumed_at == 8
    assert result.reason == "validation loss is not finite after step 4"
    assert (result.status, result.loss_nats, result.curve) == ("diverged", None, ())
    assert record(result) == record(run(config, poisoned))


def test_a_final_loss_that_is_not_finite_marks_the_run(
    run: Callable, config: TrainConfig, corpus: Corpus
) -> None:
    poisoned = Poisoned(corpus, validation_window=40)
    result = run(config, poisoned)
    assert result.reason == "final validation loss is not finite"
    assert (result.status, result.loss_nats) == ("diverged", None)
    assert [point.step for point in result.curve] == [4, 8, 12, 16, 20]
    assert record(result)["n_steps"] == 20
