# SPDX-License-Identifier: Apache-2.0
"""The loss depends on the configuration and the data alone: not on chunks, nor on the mesh."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.network.execution import Execution
from model.training.clock import Clock
from model.training.compile_program import compile_program
from model.training.config import TrainConfig
from model.training.loop import train_pack
from model.training.outcome import Progress, TrainResult
from model.training.validation import Validation, validation_set


def outcome(result: TrainResult) -> tuple:
    """All of a result that must not depend on how the run was executed."""
    return (
        result.status,
        result.reason,
        result.loss_nats,
        result.oracle_loss_nats,
        result.curve,
        result.params_sha256,
        result.n_steps,
        result.n_tokens,
    )


@pytest.fixture(scope="module")
def run(network_config: ModelConfig, train_config: TrainConfig, corpus: Corpus) -> Callable:
    """(changes of the configuration, **options) -> (result, progress)."""

    def run(change: dict | None = None, **options: object) -> tuple[TrainResult, list[Progress]]:
        told: list[Progress] = []
        config = replace(train_config, **(change or {}))
        result = train_pack(network_config, (config,), corpus, on_progress=told.extend, **options)[
            0
        ]
        return result, told

    return run


@pytest.fixture(scope="module")
def reference(run: Callable) -> tuple[TrainResult, list[Progress]]:
    return run()


AS_SEVEN = pytest.mark.slow(reason="7 s of compiling; 7 steps per dispatch are in the quick suite")


@pytest.mark.parametrize(
    "steps_per_dispatch", [pytest.param(1, marks=AS_SEVEN), 7, pytest.param(64, marks=AS_SEVEN)]
)
def test_steps_per_dispatch_change_no_bit(
    run: Callable,
    run_steps: Callable,
    train_config: TrainConfig,
    reference: tuple,
    steps_per_dispatch: int,
) -> None:
    result, told = run(execution=Execution(steps_per_dispatch=steps_per_dispatch))
    assert outcome(result) == outcome(reference[0])
    losses = run_steps(train_config)[1]
    starts = [0, *(progress.step for progress in told)]
    for start, progress in zip(starts, told, strict=False):
        assert progress.loss_nats == float(losses[start : progress.step].mean())


@pytest.mark.parametrize("sizes", [(1,), (3,), (1, 1, 6, 2)], ids=str)
def test_how_many_steps_a_dispatch_takes_changes_no_bit(
    run: Callable, reference: tuple, monkeypatch: pytest.MonkeyPatch, sizes: tuple
) -> None:
    """Nor what is told: chunks end where they would."""
    found = itertools.cycle(sizes)
    dispatched = []

    def dispatch_steps(_: Clock, most: int) -> int:
        dispatched.append(min(most, next(found)))
        return dispatched[-1]

    monkeypatch.setattr(Clock, "dispatch_steps", dispatch_steps)
    result, told = run()
    assert sum(dispatched) == 20
    assert max(dispatched) == max(sizes)
    assert outcome(result) == outcome(reference[0])
    rows = [[(p.step, p.loss_nats, p.grad_norm) for p in each] for each in (told, reference[1])]
    assert rows[0] == rows[1]


def test_losses_of_all_steps_equal_those_of_one_call(
    run_steps: Callable, train_config: TrainConfig, reference: tuple
) -> None:
    losses = run_steps(train_config)[1]
    expected = [float(losses[:10].mean()), float(losses[10:].mean())]
    assert [progress.loss_nats for progress in reference[1]] == expected
    assert losses[-5:].mean() < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("steps_per_dispatch", "steps"),
    [(1, list(range(1, 21))), (7, [7, 10, 17, 20]), (32, [10, 20])],
)
def test_every_chunk_is_told_once_and_in_order(
    run: Callable, steps_per_dispatch: int, steps: list
) -> None:
    _, told = run(execution=Execution(steps_per_dispatch=steps_per_dispatch))
    assert [progress.step for progress in told] == steps
    assert [progress.n_tokens for progress in told] == [step * 128 for step in steps]
    assert {(progress.n_steps, progress.resumed_at) for progress in told} == {(20, 0)}


def test_a_second_run_is_the_same_to_the_last_bit(run: Callable, reference: tuple) -> None:
    assert outcome(run()[0]) == outcome(reference[0])


@pytest.mark.parametrize("seed", ["init_seed", "data_seed"])
def test_another_seed_is_another_run(run: Callable, reference: tuple, seed: str) -> None:
    result = run({seed: 1})[0]
    assert result.params_sha256 != reference[0].params_sha256
    assert result.loss_nats != reference[0].loss_nats
    assert result.oracle_loss_nats == reference[0].oracle_loss_nats


def test_another_validation_seed_changes_what_is_measured_and_not_what_is_trained(
    run: Callable, train_config: TrainConfig, reference: tuple
) -> None:
    result = run({"evaluation": replace(train_config.evaluation, seed=4)})[0]
    assert result.params_sha256 == reference[0].params_sha256
    assert result.oracle_loss_nats != reference[0].oracle_loss_nats


def test_more_curve_points_change_no_loss(
    run: Callable, train_config: TrainConfig, reference: tuple
) -> None:
    result = run({"evaluation": replace(train_config.evaluation, n_points=6)})[0]
    assert [point.step for point in result.curve] == [4, 7, 10, 14, 17, 20]
    assert [point.n_tokens for point in result.curve] == [
        128 * point.step for point in result.curve
    ]
    assert {point.step: point for point in result.curve}[10] == reference[0].curve[0]
    assert result.params_sha256 == reference[0].params_sha256
    assert result.loss_nats == reference[0].loss_nats


def test_a_finished_run_says_what_it_did(reference: tuple) -> None:
    result = reference[0]
    assert (result.status, result.reason, result.notes) == ("ok", "", ())
    assert (result.n_steps, result.n_tokens, result.resumed_at) == (20, 20 * 8 * 16, 0)
    assert len(result.params_sha256) == 64
    assert set(result.seconds) == {"compile", "train", "stall", "evaluate", "checkpoint"}


AS_THREE = pytest.mark.slow(reason="5 s of compiling; a mesh of three axes is in the quick suite")


@pytest.mark.parametrize(
    "mesh",
    [
        (1, 2, 2, 2),
        pytest.param((1, 8, 1, 1), marks=AS_THREE),
        pytest.param((1, 1, 8, 1), marks=AS_THREE),
    ],
)
def test_twenty_losses_on_eight_devices_equal_those_on_one(
    run_steps: Callable, train_config: TrainConfig, mesh: tuple
) -> None:
    _, losses, norms = run_steps(train_config, mesh=mesh)
    _, expected, expected_norms = run_steps(train_config)
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(norms, expected_norms, rtol=1e-4)


@pytest.mark.slow(reason="5 s of compiling; twenty losses on eight devices are quick")
def test_a_whole_run_on_a_mesh_equals_the_run_on_one_device(
    run: Callable, reference: tuple
) -> None:
    result = run(mesh_shape=(1, 2, 2, 2))[0]
    found = [result.loss_nats, *(point.loss_nats for point in result.curve)]
    expected = [reference[0].loss_nats, *(point.loss_nats for point in reference[0].curve)]
    assert found == pytest.approx(expected, abs=1e-5)
    assert result.oracle_loss_nats == reference[0].oracle_loss_nats


def test_validation_batches_grow_to_what_the_mesh_divides(
    network_config: ModelConfig, still_config: TrainConfig, corpus: Corpus
) -> None:
    program = compile_program(network_config, replace(still_config, batch_size=9), (1, 3, 1, 1))
    expected = corpus.validation_windows(700, 16, still_config.evaluation.seed)
    asked = validation_set(corpus, 16, still_config.evaluation)
    validation = Validation([asked], program)
    windows = np.asarray(validation.windows["tokens"])
    assert windows.shape == (2, 33, 17)
    np.testing.assert_array_equal(windows.reshape(66, 17)[:44], expected)


@pytest.mark.parametrize(
    ("mesh", "named"),
    [((1, 3, 1, 1), "batch_size=8"), ((1, 1, 1, 4), "n_kv_heads=2"), ((1, 16, 1, 1), "batch_size")],
)
def test_a_mesh_that_does_not_fit_is_refused_in_words(
    run: Callable, mesh: tuple, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        run(mesh_shape=mesh)


def test_data_with_more_token_ids_than_the_model_are_refused(
    network_config: ModelConfig, train_config: TrainConfig, corpus: Corpus
) -> None:
    with pytest.raises(ValueError, match="vocab_size=8 of the model is less than the 9 token ids"):
        train_pack(replace(network_config, vocab_size=8), (train_config,), corpus)
