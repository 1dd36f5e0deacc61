# SPDX-License-Identifier: Apache-2.0
"""Losses and gradients of the compiled programs against the cross-entropy written by hand."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.network.execution import AUTO
from model.training.config import TrainConfig
from model.training.loop import train_pack
from model.training.outcome import Progress, TrainResult


def nats_by_hand(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """-ln softmax(logits)[target] in float64, per token."""
    logits = logits.astype(np.float64)
    log_z = np.log(np.sum(np.exp(logits), axis=-1))
    return log_z - np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]


@pytest.fixture(scope="module")
def still_run(
    network_config: ModelConfig, still_config: TrainConfig, corpus: Corpus
) -> tuple[TrainResult, list[Progress]]:
    told: list[Progress] = []
    options = {"on_progress": told.extend}
    return train_pack(network_config, (still_config,), corpus, **options)[0], told


@pytest.fixture
def nats(
    run_steps: Callable,
    network: Callable,
    network_config: ModelConfig,
    still_config: TrainConfig,
    one_device: jax.sharding.Mesh,
) -> Callable:
    """int32 [W, T+1] windows -> nats of every target under the initial network, [W, T]."""
    forward = network(network_config)[0]
    params = run_steps(still_config, 0)[0].params

    def of(windows: np.ndarray) -> np.ndarray:
        # Four at a time: one compiled shape, and no padding.
        parts = [windows[i : i + 4] for i in range(0, len(windows), 4)]
        logits = [np.asarray(forward(params, part[:, :-1])) for part in parts]
        return nats_by_hand(np.concatenate(logits), windows[:, 1:])

    return of


def test_training_loss_of_one_step_is_the_mean_cross_entropy_of_its_batch(
    nats: Callable, still_run: tuple, still_config: TrainConfig, corpus: Corpus
) -> None:
    _, told = still_run
    batch = corpus.train_windows(0, 8, seq_len=16, seed=still_config.data_seed)
    assert [progress.loss_nats for progress in told] == pytest.approx(
        [nats(batch).mean()], abs=1e-6
    )


def test_final_loss_over_a_padded_last_batch_is_the_mean_over_all_windows(
    nats: Callable, still_run: tuple, still_config: TrainConfig, corpus: Corpus
) -> None:
    result, _ = still_run
    windows = corpus.validation_windows(700, 16, still_config.evaluation.seed)
    assert len(windows) == 44  # One batch of 32, one of 12 and 20 of padding.
    assert result.loss_nats == pytest.approx(nats(windows).mean(), abs=1e-6)
    by_window = nats(windows).mean(axis=1)
    assert result.losses["all"].se_nats == pytest.approx(by_window.std(ddof=1) / 44**0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("mesh", "layout"),
    [
        ((1, 1, 1, 1), "fsdp_tensor"),
        pytest.param(
            (1, 2, 2, 2),
            "fsdp_tensor",
            marks=pytest.mark.slow(reason="5 s, as 'fsdp_context'; the network in test_sharding"),
        ),
        ((1, 2, 2, 2), "fsdp_context"),
    ],
)
def test_losses_of_documents_apart_are_those_of_each_alone(
    nats: Callable,
    network_config: ModelConfig,
    still_config: TrainConfig,
    corpus: Corpus,
    mesh: tuple,
    layout: str,
) -> None:
    """Records of the language are four tokens behind a separator; four fill a window."""
    told: list[Progress] = []
    apart = replace(network_config, separator=8)
    execution = replace(AUTO, layout=layout)
    options = {"mesh_shape": mesh, "execution": execution, "on_progress": told.extend}
    [result] = train_pack(apart, [still_config], corpus, **options)

    def alone(windows: np.ndarray) -> float:
        records = windows[:, :-1].reshape(-1, 4)
        assert (records[:, 0] == 8).all()
        ends = windows[:, 1:].reshape(-1, 4)[:, -1:]
        return float(nats(np.concatenate([records, ends], axis=1)).mean())

    batch = corpus.train_windows(0, 8, seq_len=16, seed=still_config.data_seed)
    assert [progress.loss_nats for progress in told] == pytest.approx([alone(batch)], abs=2e-6)
    windows = corpus.validation_windows(700, 16, still_config.evaluation.seed)
    assert result.loss_nats == pytest.approx(alone(windows), abs=2e-6)
    assert abs(alone(windows) - nats(windows).mean()) > 1e-3


def test_curve_uses_the_first_windows_of_the_validation_set(
    nats: Callable, still_run: tuple, still_config: TrainConfig, corpus: Corpus
) -> None:
    result, _ = still_run
    windows = corpus.validation_windows(700, 16, still_config.evaluation.seed)
    expected = nats(windows[:7]).mean()  # 100 tokens, rounded up to whole windows of 16.
    assert abs(expected - nats(windows).mean()) > 1e-3
    assert [point.loss_nats for point in result.curve] == pytest.approx([expected], abs=1e-6)


def test_loss_of_the_true_language_is_reported_on_the_same_windows(
    still_run: tuple, still_config: TrainConfig, corpus: Corpus
) -> None:
    windows = corpus.validation_windows(700, 16, still_config.evaluation.seed)
    oracle = still_run[0].oracle_loss_nats
    assert oracle == corpus.oracle_loss_nats(windows)
    assert still_run[0].loss_nats > oracle > 0


def test_gradient_norm_is_that_of_the_loss_by_hand_with_its_z_term(
    run_steps: Callable,
    network_config: ModelConfig,
    network: Callable,
    still_config: TrainConfig,
    corpus: Corpus,
    one_device: jax.sharding.Mesh,
) -> None:
    forward = network(network_config)[0]
    params = run_steps(still_config, 0)[0].params
    batch = jnp.asarray(corpus.train_windows(0, 8, seq_len=16, seed=0))

    @jax.jit
    @jax.grad
    def gradient(params: nnx.State, weight: jax.Array) -> jax.Array:
        log_p = jax.nn.log_softmax(forward(params, batch[:, :-1]))
        one_hot = jax.nn.one_hot(batch[:, 1:], 16)
        log_z = jnp.log(jnp.sum(jnp.exp(forward(params, batch[:, :-1])), axis=-1))
        return -jnp.sum(one_hot * log_p) / (8 * 16) + weight * jnp.mean(log_z**2)

    norms = []
    for weight in (0.0, 0.1):
        slopes = jax.tree.leaves(gradient(params, jnp.float32(weight)))
        expected = np.sqrt(sum(np.sum(np.asarray(slope, np.float64) ** 2) for slope in slopes))
        norms += run_steps(replace(still_config, z_loss_weight=weight), 1)[2].tolist()
        assert norms[-1] == pytest.approx(expected, rel=1e-5)
    assert norms[1] > 1.01 * norms[0]


def test_z_loss_moves_the_parameters_and_not_the_reported_loss(
    run_steps: Callable, train_config: TrainConfig
) -> None:
    plain, losses, _ = run_steps(replace(train_config, z_loss_weight=0.0), 2)
    other, with_z, _ = run_steps(replace(train_config, z_loss_weight=0.1), 2)
    assert losses[0] == with_z[0]
    assert losses[1] != with_z[1]
    head = [np.asarray(state.params["head_dv"][...]) for state in (plain, other)]
    assert np.max(np.abs(head[0] - head[1])) > 1e-4
    assert int(plain.step) == 2


def test_steps_beyond_the_trip_count_are_not_done(
    run_steps: Callable, train_config: TrainConfig
) -> None:
    few, losses, _ = run_steps(train_config, 5)
    assert int(few.step) == 5
    np.testing.assert_array_equal(losses, run_steps(train_config, 9)[1][:5])
