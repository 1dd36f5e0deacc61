# SPDX-License-Identifier: Apache-2.0
"""A run that was interrupted and resumed is the uninterrupted run, to the last bit."""

import errno
import gc
import os
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import asdict, replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import jax
import pytest
from small_networks import OTHERS, RECURRENCES, vary

from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.network.counts.total import count_params
from model.network.execution import Execution
from model.training.checkpoints import checkpoint, checkpoint_files, saves
from model.training.checkpoints.checkpoint import Checkpoints, Written
from model.training.checkpoints.checkpoint_files import Saved
from model.training.clock import Clock
from model.training.config import TrainConfig
from model.training.loop import train_pack
from model.training.outcome import Order, Progress, TrainResult

# With 7 steps per dispatch and a curve of two points, chunks end at 7, 10, 17 and 20; 10 and 20
# are evaluation steps. Every chunk but the last is followed by a checkpoint. A chunk is told
# before its evaluation and its checkpoint: interrupted at 17, a run has 10.
CHUNKS = (7, 10, 17, 20)
SAVED_BEFORE = {7: 0, 10: 7, 17: 10, 20: 17}


class Interrupted(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture(scope="module")
def attempt(network_config: ModelConfig, train_config: TrainConfig, corpus: Corpus) -> Callable:
    """Trains in a folder until ``stop_at`` is told; (result or None, losses by step)."""

    def attempt(
        folder: Path | None,
        *,
        stop_at: int | None = None,
        steps_per_dispatch: int = 7,
        config: TrainConfig = train_config,
        net: ModelConfig = network_config,
        **options: object,
    ) -> tuple[TrainResult | None, dict[int, tuple]]:
        told: dict[int, tuple] = {}

        def on_progress(packed: tuple[Progress, ...]) -> None:
            (progress,) = packed
            if progress.step == stop_at:
                raise Interrupted
            told[progress.step] = (progress.loss_nats, progress.grad_norm, progress.n_tokens)

        options |= {"on_progress": on_progress}
        options["execution"] = Execution(steps_per_dispatch=steps_per_dispatch)
        if folder is not None:
            options = {"checkpoints": Checkpoints(folder), "checkpoint_seconds": 0.0} | options
        try:
            return train_pack(net, (config,), corpus, **options)[0], told
        except Interrupted:
            return None, told

    return attempt


@pytest.fixture(scope="module")
def uninterrupted(attempt: Callable) -> tuple[TrainResult, dict[int, tuple]]:
    return attempt(None)


def same(result: TrainResult, reference: TrainResult) -> bool:
    how = {"resumed_at", "notes", "execution", "n_timed_steps", "seconds"}
    found, expected = asdict(result), asdict(reference)
    return all(found[name] == expected[name] for name in found.keys() - how)


@pytest.mark.parametrize(
    "stops",
    [
        (7,),
        (10, 17),
        (17, 17, 20),
        *(
            pytest.param(stops, marks=pytest.mark.slow(reason="2 s; each is one of the several"))
            for stops in ((10,), (17,), (20,))
        ),
    ],
    ids=lambda stops: str(stops),
)
def test_an_interrupted_run_goes_on_to_the_same_bits(
    attempt: Callable, uninterrupted: tuple, tmp_path: Path, stops: tuple
) -> None:
    losses: dict[int, tuple] = {}
    for stop in stops:
        result, told = attempt(tmp_path, stop_at=stop)
        assert result is None
        losses |= told
    result, told = attempt(tmp_path)
    assert tuple(told) == tuple(step for step in CHUNKS if step > SAVED_BEFORE[stops[-1]])
    assert losses | told == uninterrupted[1]
    assert result.resumed_at == SAVED_BEFORE[stops[-1]]
    assert same(result, uninterrupted[0])
    assert [point.step for point in result.curve] == [10, 20]


def test_checkpoints_alone_change_no_bit(
    attempt: Callable, uninterrupted: tuple, tmp_path: Path
) -> None:
    result, told = attempt(tmp_path)
    assert same(result, uninterrupted[0])
    assert told == uninterrupted[1]
    assert Checkpoints(tmp_path).steps() == [17, 10]


def test_a_run_resumed_with_other_chunks_is_the_same(
    attempt: Callable, uninterrupted: tuple, tmp_path: Path
) -> None:
    attempt(tmp_path, stop_at=10)
    result, told = attempt(tmp_path, steps_per_dispatch=32)
    assert (result.resumed_at, tuple(told)) == (7, (10, 20))
    assert same(result, uninterrupted[0])


def test_a_run_with_muon_goes_on_to_the_same_bits(
    attempt: Callable, uninterrupted: tuple, muon_config: TrainConfig, tmp_path: Path
) -> None:
    whole, losses = attempt(None, config=muon_config)
    _, told = attempt(tmp_path, stop_at=17, config=muon_config)
    result, rest = attempt(tmp_path, config=muon_config)
    assert result.resumed_at == 10
    assert told | rest == losses != uninterrupted[1]
    assert same(result, whole)


@pytest.mark.parametrize(
    "kind",
    [
        "gru",
        *(
            pytest.param(kind, marks=pytest.mark.slow(reason="2 to 8 s of compiling, as gru"))
            for kind in OTHERS | RECURRENCES
            if kind != "gru"
        ),
    ],
)
def test_a_run_of_any_mixer_goes_on_to_the_same_bits(
    attempt: Callable, network_config: ModelConfig, tmp_path: Path, kind: str
) -> None:
    net = vary(network_config, **({"n_layers": 2} | (OTHERS | RECURRENCES)[kind]))
    net = replace(net, n_layers=len(net.blocks))
    whole, losses = attempt(None, net=net)
    _, told = attempt(tmp_path, stop_at=17, net=net)
    result, rest = attempt(tmp_path, net=net)
    assert result.resumed_at == 10
    assert told | rest == losses
    assert same(result, whole)


def test_a_process_that_dies_while_it_saves_goes_on_from_the_step_before(
    attempt: Callable, uninterrupted: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = checkpoint_files.finish

    def die_at_ten(folder: Path, saved: Saved, digest: str) -> bool:
        if saved.step == 10:
            raise Interrupted
        return finish(folder, saved, digest)

    monkeypatch.setattr(checkpoint_files, "finish", die_at_ten)
    assert attempt(tmp_path)[0] is None
    monkeypatch.undo()
    result, _ = attempt(tmp_path)
    assert result.resumed_at == 7
    assert result.notes == ("unfinished checkpoint 10-1 passed over.",)
    assert same(result, uninterrupted[0])


def test_training_goes_on_while_a_checkpoint_is_written(
    attempt: Callable, uninterrupted: tuple, tmp_path: Path, halted_writer: Event
) -> None:
    """Ten steps between the copy of step 7 and its first byte; no other is begun meanwhile."""
    seen = {}

    def control(step: int) -> Order:
        seen[step] = Checkpoints(tmp_path).steps()
        if step == 17:
            halted_writer.set()
        return Order.GO

    result, told = attempt(tmp_path, checkpoint_seconds=1e-9, control=control)
    assert same(result, uninterrupted[0])
    assert told == uninterrupted[1]
    assert seen[7] == seen[10] == seen[17] == []
    assert Checkpoints(tmp_path).steps() == [7]
    result, told = attempt(tmp_path)
    assert (result.resumed_at, tuple(told)) == (7, (10, 17, 20))
    assert same(result, uninterrupted[0])


def test_a_disk_that_fails_behind_training_ends_it_before_the_next_dispatch(
    attempt: Callable, uninterrupted: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of step 10, in dispatches of three steps."""
    kept, asked, content = Checkpoints(tmp_path), [], checkpoint_files.content

    def full(folder: Path, saved: Saved, name: str, *, flush: bool) -> str | None:
        if saved.step == 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        return content(folder, saved, name, flush=flush)

    def control(step: int) -> Order:
        asked.append(step)
        if step == 13:
            wait([kept._writing[1]])
        return Order.GO

    monkeypatch.setattr(checkpoint_files, "content", full)
    monkeypatch.setattr(Clock, "dispatch_steps", lambda _, most: min(most, 3))
    with pytest.raises(OSError, match="No space left on device") as caught:
        attempt(tmp_path, control=control, checkpoints=kept)
    assert caught.value.errno == errno.ENOSPC
    assert asked == [0, 3, 6, 7, 10, 13]
    monkeypatch.undo()
    result, _ = attempt(tmp_path)
    assert result.resumed_at == 7
    assert same(result, uninterrupted[0])


@pytest.fixture
def old_objects_stay() -> Iterator[None]:
    """What is there before a test is no longer looked through for garbage, which takes seconds."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("old_objects_stay")
def test_a_run_that_goes_on_holds_one_state(
    attempt: Callable, network_config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt(tmp_path, stop_at=10)
    held, restore = [], Checkpoints.restore

    def weighed(self: Checkpoints, like: object) -> tuple:
        gc.collect()
        held.append(sum(array.nbytes for array in jax.live_arrays()))
        return restore(self, like)

    monkeypatch.setattr(Checkpoints, "restore", weighed)
    attempt(tmp_path / "empty")
    attempt(tmp_path)
    gc.collect()
    others = sum(array.nbytes for array in jax.live_arrays())
    # Parameters and two moments in float32; half a state is for tokens and constants.
    assert max(held) - others < 0.5 * 12 * count_params(network_config).total


@pytest.mark.parametrize(
    ("seconds", "took", "expected"),
    [(60.0, 1.0, 60.0), (60.0, 6.0, 60.0), (60.0, 90.0, 900.0), (0.0, 5.0, 0.0)],
)
def test_saving_takes_a_tenth_of_the_time_at_most(
    seconds: float, took: float, expected: float
) -> None:
    assert saves.next_save(1000.0, 1000.0 + took, seconds) == 1000.0 + took + expected


def test_a_run_whose_checkpoints_take_long_saves_more_seldom(
    network_config: ModelConfig,
    train_config: TrainConfig,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a clock on which a dispatch takes a second, and writing behind it as many as are told."""
    now, kept = [0.0], Checkpoints(tmp_path, keep=9)
    clock, write = SimpleNamespace(monotonic=lambda: now[0]), kept._write

    def is_written(_: Checkpoints) -> bool:
        """Once it is; it does not ask the real clock."""
        return kept._writing is not None and bool(kept._writing[1].result())

    def steps(save_seconds: float) -> list[int]:
        def slow(*args: object) -> Written:
            now[0] += save_seconds
            return write(*args)

        def control(step: int) -> Order:
            now[0] += 1.0
            return Order.GO

        for module in (saves, checkpoint):
            monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(kept, "_write", slow)
        monkeypatch.setattr(Checkpoints, "is_written", property(is_written))
        train_pack(
            network_config,
            (train_config,),
            corpus,
            execution=Execution(steps_per_dispatch=7),
            checkpoints=kept,
            checkpoint_seconds=0.5,
            control=control,
        )
        monkeypatch.undo()
        found = kept.steps()
        for saved in found:
            checkpoint_files.remove(tmp_path, Saved(saved, 1))
        return found

    assert steps(0.01) == [17, 7]
    assert steps(0.35) == [7]


def test_a_run_whose_checkpoints_are_all_damaged_begins_anew_and_says_so(
    attempt: Callable, uninterrupted: tuple, tmp_path: Path
) -> None:
    attempt(tmp_path, stop_at=10)
    (tmp_path / "7-1.sha256").write_text("0" * 64)
    result, _ = attempt(tmp_path)
    assert result.resumed_at == 0
    assert result.notes == ("checkpoint 7-1 is damaged; passed over.",)
    assert same(result, uninterrupted[0])


def test_no_checkpoint_is_written_before_its_time(
    network_config: ModelConfig, train_config: TrainConfig, corpus: Corpus, tmp_path: Path
) -> None:
    kept = Checkpoints(tmp_path)
    options = {"checkpoints": kept, "checkpoint_seconds": float("inf")}
    train_pack(
        network_config,
        (train_config,),
        corpus,
        execution=Execution(steps_per_dispatch=7),
        **options,
    )
    assert kept.steps() == []
