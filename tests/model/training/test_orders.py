# SPDX-License-Identifier: Apache-2.0
"""A run obeys between two dispatches, says when it has compiled, and accounts for its time."""

import errno
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.network.execution import Execution
from model.training import clock, loop
from model.training.checkpoints import checkpoint_files
from model.training.checkpoints.checkpoint import Checkpoints
from model.training.config import TrainConfig
from model.training.feed import Feed
from model.training.loop import train_pack
from model.training.outcome import Interrupted, Order, Progress, TrainResult
from model.training.program import Program


@pytest.fixture(scope="module")
def run(network_config: ModelConfig, train_config: TrainConfig, corpus: Corpus) -> Callable:
    """Chunks end at 7, 10, 17 and 20; saves only when ordered to."""

    def run(folder: Path | None = None, **options: object) -> TrainResult:
        options = {
            "execution": Execution(steps_per_dispatch=7),
            "checkpoint_seconds": float("inf"),
        } | options
        if folder is not None:
            options["checkpoints"] = Checkpoints(folder)
        return train_pack(network_config, (train_config,), corpus, **options)[0]

    return run


@pytest.fixture(scope="module")
def reference(run: Callable) -> TrainResult:
    return run()


def at(stop: int, order: Order) -> Callable[[int], Order]:
    return lambda step: order if step == stop else Order.GO


@pytest.mark.parametrize("stop", [7, 10, 17, 20])
def test_a_run_that_was_told_to_save_and_stop_goes_on_to_the_same_bits(
    run: Callable, reference: TrainResult, tmp_path: Path, stop: int
) -> None:
    told: list[Progress] = []
    with pytest.raises(Interrupted) as interrupted:
        run(tmp_path, control=at(stop, Order.SAVE_AND_STOP), on_progress=told.extend)
    assert (interrupted.value.step, interrupted.value.is_saved) == (stop, True)
    assert told[-1].step == stop  # What is saved has been told.
    assert Checkpoints(tmp_path).steps() == [stop]
    result = run(tmp_path, on_progress=told.extend)
    assert [progress.step for progress in told] == [7, 10, 17, 20]
    assert (result.resumed_at, result.n_timed_steps) == (stop, 20 - stop)
    assert result.params_sha256 == reference.params_sha256
    assert (result.loss_nats, result.curve) == (reference.loss_nats, reference.curve)


def test_a_checkpoint_that_was_ordered_and_cannot_be_written_is_not_said_to_be_saved(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint_files, "content", full)
    with pytest.raises(OSError, match="No space left on device"):
        run(tmp_path, control=at(7, Order.SAVE_AND_STOP))
    assert Checkpoints(tmp_path).steps() == []


def test_an_order_is_obeyed_between_two_dispatches_of_one_chunk(
    run: Callable, reference: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the chunk had done is told and saved, and the rest of it is done later."""
    monkeypatch.setattr(clock, "DISPATCH_SECONDS", 1e-9)  # One step each.
    told: list[Progress] = []
    with pytest.raises(Interrupted) as interrupted:
        run(tmp_path, control=at(12, Order.SAVE_AND_STOP), on_progress=told.extend)
    assert (interrupted.value.step, interrupted.value.is_saved) == (12, True)
    assert [progress.step for progress in told] == [7, 10, 12]
    monkeypatch.setattr(clock, "DISPATCH_SECONDS", math.inf)
    result = run(tmp_path, on_progress=told.extend)
    assert [progress.step for progress in told] == [7, 10, 12, 17, 20]
    assert (result.resumed_at, result.n_timed_steps) == (12, 8)
    assert result.params_sha256 == reference.params_sha256
    assert (result.loss_nats, result.curve) == (reference.loss_nats, reference.curve)


def test_a_run_that_was_told_to_stop_saves_nothing(run: Callable, tmp_path: Path) -> None:
    with pytest.raises(Interrupted) as interrupted:
        run(tmp_path, control=at(10, Order.STOP))
    assert (interrupted.value.step, interrupted.value.is_saved) == (10, False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stop", [7, 10, 12])
def test_a_run_that_is_given_up_ends_with_what_it_has(
    run: Callable, reference: TrainResult, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    if stop == 12:
        monkeypatch.setattr(clock, "DISPATCH_SECONDS", 1e-9)  # One step each.
    told: list[Progress] = []
    heard: list[tuple] = []
    result = run(
        control=at(stop, Order.GIVE_UP), on_progress=told.extend, on_evaluated=heard.append
    )
    assert (result.status, result.reason) == ("stopped", f"given up after step {stop}")
    assert (result.n_steps, told[-1].step) == (stop, stop)
    assert (result.losses, result.params_sha256) == ({}, "")
    assert result.curve == tuple(point for point in reference.curve if point.step <= stop)
    # Each point is told when it is new.
    assert [point for (point,) in heard] == list(result.curve)
    run(on_evaluated=heard.append)
    assert [point for (point,) in heard[len(result.curve) :]] == list(reference.curve)


def test_a_run_that_has_done_nothing_saves_nothing(run: Callable, tmp_path: Path) -> None:
    with pytest.raises(Interrupted) as interrupted:
        run(tmp_path, control=at(0, Order.SAVE_AND_STOP))
    assert (interrupted.value.step, interrupted.value.is_saved) == (0, False)
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_step_is_not_saved_again(run: Callable, tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        with pytest.raises(Interrupted) as interrupted:
            run(tmp_path, control=at(10, Order.SAVE_AND_STOP))
        times = [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))]
        seen.append((interrupted.value.step, interrupted.value.is_saved, times))
    assert seen[0][:2] == (10, True)
    assert seen[1] == seen[0]


def test_without_a_folder_an_order_to_save_only_stops(run: Callable) -> None:
    with pytest.raises(Interrupted) as interrupted:
        run(control=at(7, Order.SAVE_AND_STOP))
    assert (interrupted.value.step, interrupted.value.is_saved) == (7, False)


@pytest.mark.parametrize(
    ("seconds", "steps"), [(math.inf, [0, 7, 10, 17, 20]), (1e-9, list(range(21)))]
)
def test_orders_are_asked_for_before_each_dispatch_and_before_the_final_evaluation(
    run: Callable, monkeypatch: pytest.MonkeyPatch, seconds: float, steps: list
) -> None:
    monkeypatch.setattr(clock, "DISPATCH_SECONDS", seconds)
    asked: list[int] = []

    def control(step: int) -> Order:
        asked.append(step)
        return Order.GO

    run(control=control)
    assert asked == steps


def test_nothing_is_compiled_once_training_has_begun(run: Callable) -> None:
    """JAX itself says when it compiles. Four chunks, three evaluations, in a process that may have
    compiled nothing of this before."""
    jax.clear_caches()
    phase, compiled = [""], []

    def listen(event: str, seconds: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(phase[-1])

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        run(on_phase=phase.append)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert phase == ["", "compile", "train"]
    assert set(compiled) == {"compile"}


def test_every_step_of_an_attempt_is_timed(run: Callable) -> None:
    told: list[Progress] = []
    result = run(on_progress=told.extend)
    assert result.n_timed_steps == 20
    assert all(result.seconds[name] > 0 for name in ("compile", "train", "evaluate"))
    assert 0 < told[0].train_seconds < told[-1].train_seconds <= result.seconds["train"]


class Busy:
    """An array on a device that has not come to it yet."""

    def __init__(self, done: Future):
        self.done = done

    def block_until_ready(self) -> None:
        self.done.result()

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        return self.done.result()


def test_training_behind_a_slow_loader_is_in_the_account_of_training(
    run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the four dispatches takes the device a fifth of a second, and loading takes longer.
    A sleep is never too short, so no machine is too slow for this."""
    compile_program, load, device = loop.compile_program, Feed._load, ThreadPoolExecutor(1)

    def slow(*arguments: object, **options: object) -> Program:
        program = compile_program(*arguments, **options)

        def train_chunk(*given: object) -> tuple:
            state, metrics = jax.block_until_ready(program.train_chunk(*given))
            device.submit(time.sleep, 0.2)
            busy = {n: Busy(device.submit(np.asarray, x)) for n, x in metrics.items()}
            return state, busy

        return replace(program, train_chunk=train_chunk)

    def load_slowly(feed: Feed) -> None:
        load(feed)
        time.sleep(0.4)

    monkeypatch.setattr(loop, "compile_program", slow)
    monkeypatch.setattr(Feed, "_load", load_slowly)
    monkeypatch.setattr(clock, "DISPATCH_SECONDS", math.inf)
    began = time.perf_counter()
    seconds = run().seconds
    assert seconds["train"] >= 4 * 0.2
    assert seconds["stall"] > 0
    assert sum(seconds.values()) <= time.perf_counter() - began
