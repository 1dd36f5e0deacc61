# SPDX-License-Identifier: Apache-2.0
"""Classes of images: loss and error are those of the logits, learnt, packed and alone."""

import math
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from filled_networks import with_params
from flax import nnx
from msgspec.json import encode as json_encode
from small_networks import IMAGES, LLAMA, vary

from model.data.corpus import GeneratedCorpus
from model.data.source import MarkovMesh
from model.data.synthetic.mesh import bayes_error, class_entropy_nats, describe
from model.network.execution import PLAIN, Execution
from model.network.transformer import Transformer
from model.training.checkpoints.checkpoint import Checkpoints
from model.training.compatible import check_pack
from model.training.compile_program import compile_program
from model.training.config import EvalConfig, TrainConfig
from model.training.loop import train_pack
from model.training.objectives.classification import OBJECTIVE
from model.training.objectives.kinds import check_network
from model.training.optimizers.optimizer import hyper_arrays
from model.training.outcome import Interrupted, Order
from model.training.step import LOSS

SOURCE = MarkovMesh(height=2, width=6, levels=4, epsilon=0.5, labelled=True)
SIZES = {**IMAGES["vit"], "patches": replace(IMAGES["vit"]["patches"], levels=4)}
NET = vary(LLAMA, **SIZES, vocab_size=4)


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("pool", ["token", "mean"])
def test_loss_and_errors_are_those_of_the_logits(pool: str, train_config: TrainConfig) -> None:
    net = replace(NET, patches=replace(NET.patches, pool=pool))
    build = jax.jit(
        lambda: nnx.state(Transformer(net, compute_dtype=jnp.float32, rngs=nnx.Rngs(0)))
    )
    network = with_params(net, build())
    windows = GeneratedCorpus(describe(SOURCE), SOURCE).train_windows(0, 8, seq_len=12, seed=0)
    apply = jax.jit(lambda tokens: network(tokens)[0])
    logits = np.asarray(apply(jnp.asarray(windows[:, 1:])))[:, 0].astype(float)
    classes = windows[:, 0] - 4
    nats = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(8), classes]
    batch = {"tokens": jnp.asarray(windows)}
    found = jax.jit(lambda batch: OBJECTIVE.evaluate(network, batch, jnp.arange(8), 1))(batch)
    np.testing.assert_allclose(found.nats.sum(axis=1), nats, atol=1e-5)
    np.testing.assert_array_equal(found.is_unit.sum(axis=1), 1)
    wrong = np.argmax(logits, axis=1) != classes
    assert 0 < wrong.sum() < 8
    np.testing.assert_array_equal(found.is_wrong.sum(axis=1), wrong)
    hyper = hyper_arrays(train_config)
    loss = jax.jit(lambda batch: OBJECTIVE.loss(network, batch, hyper, 1))(batch)
    assert loss.nats == pytest.approx(nats.mean(), abs=1e-5)
    # All of the image is seen, and nothing of the class.
    pixels = windows[:, 1:].copy()
    pixels[:, -1] = (pixels[:, -1] + 1) % 4
    other = np.asarray(apply(jnp.asarray(pixels)))
    assert np.all(np.any(other[:, 0] != logits, axis=-1))


@pytest.mark.slow(reason="8 s of training")
def test_classes_are_learnt_and_each_run_of_a_pack_is_as_it_is_alone(
    train_config: TrainConfig,
) -> None:
    corpus = GeneratedCorpus(describe(SOURCE), SOURCE)
    schedule = replace(train_config.schedule, n_steps=150, warmup_steps=10, decay_steps=100)
    first = replace(
        train_config,
        objective="classification",
        batch_size=32,
        schedule=schedule,
        evaluation=EvalConfig(n_tokens=12 * 1000, curve_tokens=12 * 32, n_points=1, seed=0),
    )
    configs = [first, replace(first, init_seed=1, data_seed=2)]
    packed = train_pack(NET, configs, corpus)
    (alone,) = train_pack(NET, configs[1:], corpus)
    assert packed[1].loss_nats == pytest.approx(alone.loss_nats, abs=1e-5)
    loss = alone.losses["all"]
    assert (loss.n_units, loss.by_context, loss.n_bytes) == (1000, (), None)
    # A guess loses ln 4 and is wrong three times of four.
    scatter = 4 * math.sqrt(0.25 / 1000)
    assert class_entropy_nats(SOURCE) - 0.1 < loss.nats < 0.8 * math.log(4)
    assert bayes_error(SOURCE) - scatter < loss.error_rate < 0.6
    assert json_encode(loss), "as the ledger does"


@pytest.fixture
def config(train_config: TrainConfig) -> TrainConfig:
    evaluation = EvalConfig(n_tokens=12 * 40, curve_tokens=12 * 8, n_points=2, seed=0)
    return replace(train_config, objective="classification", evaluation=evaluation)


@pytest.mark.slow(reason="5 s of compiling; of other objectives it is in the quick suite")
def test_a_killed_run_is_resumed_to_the_last_bit(config: TrainConfig, tmp_path: Path) -> None:
    corpus = GeneratedCorpus(describe(SOURCE), SOURCE)
    execution = replace(PLAIN, steps_per_dispatch=7)
    (whole,) = train_pack(NET, [config], corpus, execution=execution)
    options = {"execution": execution, "checkpoints": Checkpoints(tmp_path)}
    orders = {10: Order.SAVE_AND_STOP}
    with pytest.raises(Interrupted):
        train_pack(NET, [config], corpus, control=lambda at: orders.get(at, Order.GO), **options)
    (resumed,) = train_pack(NET, [config], corpus, **options)
    assert resumed.resumed_at == 10
    assert resumed.params_sha256 == whole.params_sha256
    assert resumed.losses == whole.losses


def steps(config: TrainConfig, execution: Execution, mesh: tuple[int, ...]) -> np.ndarray:
    """Training losses, then the validation nats of every image."""
    execution = replace(execution, steps_per_dispatch=4)
    program = compile_program(NET, config, mesh, execution)
    corpus = GeneratedCorpus(describe(SOURCE), SOURCE)
    rows = corpus.train_windows(0, 4 * 8, seq_len=12, seed=0)
    hyper = hyper_arrays(config)
    with jax.set_mesh(program.mesh):
        chunk = program.put(rows.reshape(4, 8, -1))
        state = program.init(jax.random.key(0), hyper)
        state, told = program.train_chunk(state, hyper, chunk, jnp.int32(0), jnp.int32(4))
        found = program.evaluate(state.params, chunk, jnp.int32(4))
    return np.concatenate([np.asarray(told[LOSS]), np.ravel(found.nats)])


@pytest.mark.slow(reason="10 s of compiling; of other objectives it is in the quick suite")
def test_on_eight_devices_in_parts_and_computed_again_losses_are_those_of_one(
    config: TrainConfig,
) -> None:
    fast = replace(PLAIN, layers="scanned", remat="block", n_microbatches=2)
    plain = steps(config, PLAIN, (1, 1, 1, 1))
    np.testing.assert_allclose(steps(config, fast, (1, 2, 2, 2)), plain, rtol=2e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"which are patches of one image\. Say layout"):
        check_pack(
            NET,
            [config],
            [GeneratedCorpus(describe(SOURCE), SOURCE)],
            (1, 1, 1, 1),
            replace(PLAIN, layout="fsdp_context"),
        )


def test_what_does_not_go_together_is_refused_in_one_line() -> None:
    plain = vary(LLAMA)
    for name, net in (("classification", plain), ("next_token", NET), ("masked", NET)):
        with pytest.raises(ValueError, match="'classification' sees images in patches") as error:
            check_network(name, net)
        assert "\n" not in str(error.value)
    check_network("classification", NET)
    for changes, words in (
        ({"seq_len": 16}, "a window is one image. Say seq_len=12"),
        ({"tie_embeddings": True}, "an image has no tokens"),
    ):
        with pytest.raises(ValueError, match=words):
            replace(NET, **changes)
    with pytest.raises(ValueError, match="side=4: must divide an image of 2 x 6 pixels"):
        replace(NET.patches, side=4)
