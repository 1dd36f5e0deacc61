# SPDX-License-Identifier: Apache-2.0
"""A branch of a trunk is the run that was trained from its first step, to the last bit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.network.execution import Execution
from model.training.checkpoints.checkpoint import Checkpoints, TrunkLost
from model.training.config import ScheduleConfig, TrainConfig
from model.training.loop import train_pack
from model.training.outcome import Interrupted, Order, Progress, TrainResult

# The longest run, whose first 11 steps are those of all; chunks of 7 end where evaluations do not.
SCHEDULE = ScheduleConfig(
    n_steps=40, warmup_steps=3, decay_steps=10, decay="linear", final_fraction=0.0
)
UNTIL = 11


class Unmeasured(Corpus):
    """A corpus whose validation split nobody may ask for."""

    def __init__(self, corpus: Corpus):
        super().__init__(corpus.manifest)
        self.corpus = corpus

    def train_windows(self, first: int, n: int, *, seq_len: int, seed: int) -> np.ndarray:
        return self.corpus.train_windows(first, n, seq_len=seq_len, seed=seed)

    def validation_windows(self, n_tokens: int, seq_len: int, seed: int) -> np.ndarray:
        raise AssertionError("a trunk evaluates nothing")

    def n_windows(self, seq_len: int) -> int | None:
        return self.corpus.n_windows(seq_len)


def point(config: TrainConfig, **changes: object) -> TrainConfig:
    """A run of 20 steps of that trunk, with a curve at 4, 8, 12, 16 and 20."""
    schedule = replace(SCHEDULE, n_steps=20, decay_steps=8, **changes)
    evaluation = replace(config.evaluation, n_points=5)
    return replace(config, schedule=schedule, evaluation=evaluation)


@pytest.fixture(scope="module")
def run(network_config: ModelConfig, corpus: Corpus) -> Callable:
    """(config, folder or None, options) -> result; a trunk is named by its folder."""

    def run(config: TrainConfig, folder: Path | None = None, **options: object) -> TrainResult:
        options = {
            "corpus": corpus,
            "checkpoint_seconds": float("inf"),
            "execution": Execution(steps_per_dispatch=7),
        } | options
        if folder is not None:
            options["checkpoints"] = Checkpoints(folder)
        if "trunk" in options:
            options["trunk"] = Checkpoints(options["trunk"])
        return train_pack(network_config, (config,), options.pop("corpus"), **options)[0]

    return run


@pytest.fixture
def trunk(run: Callable, train_config: TrainConfig, corpus: Corpus, tmp_path: Path) -> TrainResult:
    """The trunk in tmp_path / "trunk"."""
    config = replace(train_config, schedule=SCHEDULE)
    return run(config, tmp_path / "trunk", until=UNTIL, corpus=Unmeasured(corpus))


def test_a_trunk_ends_with_a_checkpoint_of_its_last_step_and_evaluates_nothing(
    trunk: TrainResult, tmp_path: Path
) -> None:
    assert (trunk.status, trunk.loss_nats, trunk.oracle_loss_nats) == ("ok", None, None)
    assert (trunk.curve, trunk.n_steps, trunk.n_tokens) == ((), UNTIL, UNTIL * 8 * 16)
    assert len(trunk.params_sha256) == 64
    assert Checkpoints(tmp_path / "trunk").steps() == [UNTIL]


@pytest.mark.parametrize("algorithm", ["adamw", "muon"])
@pytest.mark.parametrize(
    "changes",
    [
        {"decay": "linear"},
        {"decay": "one_minus_sqrt"},
        {"decay": "cosine", "final_fraction": 0.1},
    ],
    ids=lambda changes: changes["decay"],
)
def test_a_branch_is_the_run_from_its_first_step(
    run: Callable,
    train_config: TrainConfig,
    muon_config: TrainConfig,
    tmp_path: Path,
    algorithm: str,
    changes: dict,
) -> None:
    of = muon_config if algorithm == "muon" else train_config
    falling = replace(of.optimizer, weight_decay_holds=4, weight_decay_fall=0.5)
    of = replace(of, optimizer=falling)
    run(replace(of, schedule=SCHEDULE), tmp_path / "trunk", until=UNTIL)
    config = point(of, **changes)
    told: list[Progress] = []
    branch = run(config, tmp_path / "own", trunk=tmp_path / "trunk", on_progress=told.extend)
    alone = run(config)
    assert (branch.loss_nats, branch.params_sha256) == (alone.loss_nats, alone.params_sha256)
    assert (branch.n_steps, branch.n_tokens) == (20, alone.n_tokens)
    assert branch.oracle_loss_nats == alone.oracle_loss_nats
    assert [point.step for point in branch.curve] == [12, 16, 20]
    assert branch.curve == alone.curve[2:]
    assert (branch.resumed_at, branch.n_timed_steps, branch.notes) == (UNTIL, 20 - UNTIL, ())
    assert [progress.step for progress in told] == [12, 16, 20]
    assert {progress.n_steps for progress in told} == {20}


def test_a_trunk_of_a_trunk_and_a_killed_branch_are_the_same(
    run: Callable, train_config: TrainConfig, tmp_path: Path
) -> None:
    long = replace(train_config, schedule=SCHEDULE)
    kill = {"control": lambda step: Order.SAVE_AND_STOP if step == 7 else Order.GO}
    with pytest.raises(Interrupted):
        run(long, tmp_path / "first", until=10, **kill)
    first = run(long, tmp_path / "first", until=10)
    assert (first.resumed_at, Checkpoints(tmp_path / "first").steps()) == (7, [10, 7])
    second = run(long, tmp_path / "second", trunk=tmp_path / "first", until=UNTIL)
    assert (second.resumed_at, second.params_sha256) == (10, run(long, until=UNTIL).params_sha256)
    config = point(train_config)
    kill = {"control": lambda step: Order.SAVE_AND_STOP if step == 16 else Order.GO}
    with pytest.raises(Interrupted):
        run(config, tmp_path / "own", trunk=tmp_path / "second", **kill)
    branch, alone = run(config, tmp_path / "own", trunk=tmp_path / "second"), run(config)
    assert branch.resumed_at == 16
    assert (branch.loss_nats, branch.params_sha256) == (alone.loss_nats, alone.params_sha256)
    assert branch.curve == alone.curve[2:]


def test_a_branch_stopped_before_its_first_step_has_saved_nothing_unless_told_to(
    run: Callable, trunk: TrainResult, train_config: TrainConfig, tmp_path: Path
) -> None:
    for order, is_saved in ((Order.STOP, False), (Order.SAVE_AND_STOP, True)):
        own = tmp_path / order.name
        with pytest.raises(Interrupted) as interrupted:
            run(point(train_config), own, trunk=tmp_path / "trunk", control=lambda _, o=order: o)
        assert (interrupted.value.step, interrupted.value.is_saved) == (UNTIL, is_saved)
        assert Checkpoints(own).steps() == [UNTIL] * is_saved


def test_a_finished_trunk_is_read_and_not_trained_again(
    run: Callable, trunk: TrainResult, train_config: TrainConfig, tmp_path: Path
) -> None:
    config = replace(train_config, schedule=SCHEDULE)
    again = run(config, tmp_path / "trunk", until=UNTIL)
    assert (again.resumed_at, again.n_timed_steps, again.status) == (UNTIL, 0, "ok")
    assert again.params_sha256 == trunk.params_sha256


def test_a_damaged_trunk_is_passed_over_and_a_lost_one_is_said(
    run: Callable, trunk: TrainResult, train_config: TrainConfig, tmp_path: Path
) -> None:
    config, folder = point(train_config), tmp_path / "trunk"
    own = run(config, tmp_path / "own", trunk=folder, checkpoint_seconds=0.0)
    (folder / f"{UNTIL}-1.sha256").write_text("0" * 64)
    with pytest.raises(TrunkLost, match="no intact checkpoint of the trunk"):
        run(config, tmp_path / "other", trunk=folder)
    # What a branch has saved it needs no trunk for.
    again = run(config, tmp_path / "own", trunk=folder)
    assert (again.resumed_at, again.params_sha256) == (16, own.params_sha256)


def test_a_trunk_that_reaches_into_the_decay_is_refused(
    run: Callable, trunk: TrainResult, train_config: TrainConfig, tmp_path: Path
) -> None:
    config = point(train_config)
    late = replace(config, schedule=replace(config.schedule, decay_steps=10))
    message = "a trunk of 11 steps is no part of this run, whose rate decays after 10 of 20 steps"
    with pytest.raises(ValueError, match=message):
        run(late, trunk=tmp_path / "trunk")
    with pytest.raises(ValueError, match="until: a trunk of 13 steps is no part"):
        run(config, until=13)
    assert run(config, until=12).n_steps == 12


def test_a_diverged_trunk_saves_nothing(
    run: Callable, train_config: TrainConfig, tmp_path: Path
) -> None:
    group = replace(train_config.optimizer.input, learning_rate=1e30)
    optimizer = replace(train_config.optimizer, input=group)
    config = replace(train_config, schedule=SCHEDULE, optimizer=optimizer)
    result = run(config, tmp_path / "wild", until=UNTIL)
    assert (result.status, result.params_sha256) == ("diverged", "")
    assert 0 < result.n_steps < UNTIL
    assert Checkpoints(tmp_path / "wild").steps() == []
