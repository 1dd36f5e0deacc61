# SPDX-License-Identifier: Apache-2.0
"""Targets given their sources, through the whole loop: killed, packed, and on eight devices."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import ENCODED, vary

from model.data.corpus import open_corpus
from model.data.source import Pairs
from model.data.synthetic.open_language import describe_language
from model.network.config import EncoderConfig
from model.network.counts.gru import BidirectionalGRUConfig
from model.network.execution import PLAIN
from model.training.checkpoints.checkpoint import Checkpoints
from model.training.compile_program import compile_program
from model.training.config import EvalConfig
from model.training.loop import train_pack
from model.training.objectives.linear_head import next_token_nats
from model.training.optimizers.optimizer import hyper_arrays
from model.training.outcome import Interrupted, Order
from model.training.step import LOSS

N_STEPS = 4
FAST = {"layers": "scanned", "remat": "block", "n_microbatches": 2, "n_loss_chunks": 2}
FIRST, *MORE = ENCODED


@pytest.fixture(
    scope="module",
    params=[FIRST, *(pytest.param(name, marks=pytest.mark.slow(reason="as it")) for name in MORE)],
)
def net(network_config, request):
    """Eight tokens of source, eight of target."""
    changes = ENCODED[request.param]
    encoder = changes["encoder"]
    if encoder.blocks == ENCODED["cross_attention"]["encoder"].blocks:
        encoder = EncoderConfig(source_len=8, blocks=network_config.blocks)
    changes = changes | {"encoder": replace(encoder, source_len=8)}
    n_layers = len(changes["mixers"])
    return vary(network_config, **changes, n_heads=4, n_kv_heads=2, n_layers=n_layers)


@pytest.fixture(scope="module")
def corpus():
    return open_corpus(describe_language(Pairs(task="reverse", n_words=14, language_seed=0)), "")


@pytest.fixture
def config(train_config):
    return replace(train_config, objective="translation", z_loss_weight=0.0)


def test_the_loss_is_the_mean_of_the_target_and_of_nothing_else(net, config, corpus, network):
    program, hyper = compile_program(net, config, (1, 1, 1, 1)), hyper_arrays(config)
    windows = corpus.train_windows(0, 8, seq_len=16, seed=0)
    with jax.set_mesh(program.mesh):
        apply, _ = network(net)
        state = program.init(jax.random.key(0), hyper)
        logits = apply(state.params, windows[:, :-1])
        nats = np.asarray(next_token_nats(logits, jnp.asarray(windows[:, 9:]))[0])
        assert nats.shape == (8, 8)
        measured = program.evaluate(state.params, program.put(windows[None]), jnp.int32(1))
        chunk = program.put(np.tile(windows, (32, 1, 1)))
        told = program.train_chunk(state, hyper, chunk, jnp.int32(0), jnp.int32(1))[1][LOSS]
    np.testing.assert_allclose(np.ravel(measured.nats), nats.sum(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(measured.n_units, np.full((1, 8), 8))
    np.testing.assert_allclose(told[0], nats.mean(), rtol=1e-5)


@pytest.mark.slow(reason="9 s; the loop is that of other objectives")
def test_a_killed_run_is_resumed_to_the_last_bit(net, config, corpus, tmp_path):
    execution = replace(PLAIN, steps_per_dispatch=7)
    (whole,) = train_pack(net, [config], corpus, execution=execution)
    options = {"execution": execution, "checkpoints": Checkpoints(tmp_path)}
    orders = {10: Order.SAVE_AND_STOP}
    with pytest.raises(Interrupted):
        train_pack(net, [config], corpus, control=lambda at: orders.get(at, Order.GO), **options)
    (resumed,) = train_pack(net, [config], corpus, **options)
    assert resumed.resumed_at == 10
    assert resumed.params_sha256 == whole.params_sha256
    assert resumed.losses == whole.losses
    loss = whole.losses["all"]
    # Of the 16 tokens of each of 44 windows, the second half; each sees the source at least.
    assert (loss.n_units, loss.n_bytes, whole.oracle_loss_nats) == (44 * 8, None, None)
    assert [one.least_seen for one in loss.by_context] == [8, 16]


@pytest.mark.slow(reason="13 s; packs are those of other objectives")
def test_a_packed_run_has_the_losses_that_it_has_alone(net, config, corpus):
    schedule = replace(config.schedule, n_steps=N_STEPS, warmup_steps=1, decay_steps=2)
    config = replace(config, schedule=schedule)
    configs = [config, replace(config, init_seed=1, data_seed=2)]
    packed = train_pack(net, configs, corpus)
    alone = [train_pack(net, [config], corpus)[0] for config in configs]
    losses = [one.loss_nats for one in alone]
    assert [one.loss_nats for one in packed] == pytest.approx(losses, abs=1e-5)
    assert losses[0] != losses[1]


@pytest.mark.slow(reason="12 s of compiling")
def test_on_eight_devices_in_parts_and_computed_again_losses_are_those_of_one(net, config, corpus):
    def steps(execution, mesh):
        execution = replace(execution, steps_per_dispatch=N_STEPS)
        program, hyper = compile_program(net, config, mesh, execution), hyper_arrays(config)
        rows = corpus.train_windows(0, N_STEPS * 8, seq_len=16, seed=0)
        with jax.set_mesh(program.mesh):
            chunk = program.put(rows.reshape(N_STEPS, 8, -1))
            state = program.init(jax.random.key(0), hyper)
            state, told = program.train_chunk(state, hyper, chunk, jnp.int32(0), jnp.int32(N_STEPS))
            found = program.evaluate(state.params, chunk, jnp.int32(N_STEPS))
        return np.concatenate([np.asarray(told[LOSS]), np.ravel(found.nats)])

    plain = steps(PLAIN, (1, 1, 1, 1))
    found = steps(replace(PLAIN, **FAST), (1, 2, 2, 2))
    np.testing.assert_allclose(found, plain, rtol=2e-5, atol=1e-5)


def test_what_does_not_fit_is_refused_in_words(net, network_config, config, corpus):
    cases = {
        "objective='translation' needs an encoder": (network_config, config),
        "objective='next_token' has no source": (net, replace(config, objective="next_token")),
        "'bidirectional_gru' sees what is behind it": (
            vary(
                network_config,
                mixers=(BidirectionalGRUConfig(d_state=8, use_gate_bias=True),),
            ),
            replace(config, objective="next_token"),
        ),
    }
    for words, (model, train) in cases.items():
        with pytest.raises(ValueError, match=words) as refused:
            train_pack(model, [train], corpus)
        assert "\n" not in str(refused.value)
    by_bytes = EvalConfig(n_bytes=100, curve_bytes=10, n_points=1, seed=0)
    with pytest.raises(ValueError, match=r"evaluation.n_bytes=100 scores documents"):
        replace(config, evaluation=by_bytes)
