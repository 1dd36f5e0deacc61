# SPDX-License-Identifier: Apache-2.0
"""Hidden tokens through the whole loop: the same runs killed, packed, and on eight devices."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import OTHERS, vary

from model.network.execution import PLAIN
from model.network.sharding import make_mesh
from model.training.checkpoints.checkpoint import Checkpoints
from model.training.compile_program import compile_program
from model.training.config import EvalConfig
from model.training.loop import train_pack
from model.training.objectives.masked import EVALUATION_RATIO, OBJECTIVE, hide
from model.training.optimizers.optimizer import hyper_arrays
from model.training.outcome import Interrupted, Order
from model.training.step import LOSS

RATIOS = {"masked": 0.3, "diffusion": None}
N_STEPS = 4
FAST = {"layers": "scanned", "remat": "block", "n_microbatches": 2, "n_loss_chunks": 2}


@pytest.fixture(
    params=[
        "diffusion",
        pytest.param("masked", marks=pytest.mark.slow(reason="'diffusion' computes the same")),
    ]
)
def config(train_config, request):
    """Twenty steps; chunks of 7 end at 7, 10, 17 and 20."""
    return replace(train_config, objective=request.param, mask_ratio=RATIOS[request.param])


def test_a_share_of_a_window_is_hidden_and_loss_is_the_mean_of_hidden_tokens(
    network_config, train_config, corpus
):
    told = []
    config = replace(train_config, objective="masked", mask_ratio=0.3)
    (result,) = train_pack(network_config, [config], corpus, on_progress=told.extend)
    loss = result.losses["all"]
    # Of the 16 tokens of each of 44 windows.
    assert loss.n_units == 44 * round(16 * EVALUATION_RATIO)
    assert (loss.is_bound, loss.n_bytes, loss.by_context) == (False, None, ())
    assert result.oracle_loss_nats is None
    assert loss.nats < told[0].loss_nats < 1.2 * np.log(15)


def test_training_hides_the_share_that_is_asked_for():
    batch = {"tokens": jnp.zeros((50, 16), jnp.int32)}
    with jax.set_mesh(make_mesh((1, 1, 1, 1))):
        for ratio, n in ((0.01, 1), (0.3, 5), (1.0, 16)):
            hyper = {"mask_ratio": jnp.float32(ratio)}
            weights = np.asarray(OBJECTIVE.draw(batch, jax.random.key(3), hyper)["weights"])
            np.testing.assert_array_equal(np.sum(weights > 0, axis=1), n)
            np.testing.assert_allclose(weights.sum(axis=1), 16, rtol=1e-6)
            # Every place is hidden by some window, and none by all, unless all are hidden.
            counts = np.sum(weights > 0, axis=0)
            assert counts.min() > 0 or n == 1
            assert (counts.max() < 50) == (n < 16)


def test_of_equal_places_the_first_are_hidden():
    found = hide(jnp.array([1, 3]), jnp.zeros((2, 4)))
    np.testing.assert_array_equal(found, [[True, False, False, False], [True, True, True, False]])


def test_a_killed_run_is_resumed_to_the_last_bit(network_config, config, corpus, tmp_path):
    execution = replace(PLAIN, steps_per_dispatch=7)
    (whole,) = train_pack(network_config, [config], corpus, execution=execution)
    options = {"execution": execution, "checkpoints": Checkpoints(tmp_path)}
    orders = {10: Order.SAVE_AND_STOP}
    with pytest.raises(Interrupted):
        train_pack(
            network_config, [config], corpus, control=lambda at: orders.get(at, Order.GO), **options
        )
    (resumed,) = train_pack(network_config, [config], corpus, **options)
    assert resumed.resumed_at == 10
    assert resumed.params_sha256 == whole.params_sha256
    assert resumed.losses == whole.losses
    assert whole.losses["all"].is_bound is (config.objective == "diffusion")
    (other,) = train_pack(
        network_config, [replace(config, data_seed=1)], corpus, execution=execution
    )
    assert other.params_sha256 != whole.params_sha256


def test_a_packed_run_has_the_losses_that_it_has_alone(network_config, config, corpus):
    schedule = replace(config.schedule, n_steps=N_STEPS, warmup_steps=1, decay_steps=2)
    config = replace(config, schedule=schedule)
    ratio = None if config.mask_ratio is None else 0.7
    configs = [config, replace(config, init_seed=1, data_seed=2, mask_ratio=ratio)]
    packed = train_pack(network_config, configs, corpus)
    # By the program of the test above.
    execution = replace(PLAIN, steps_per_dispatch=7)
    alone = [
        train_pack(network_config, [config], corpus, execution=execution)[0] for config in configs
    ]
    assert [one.loss_nats for one in packed] == pytest.approx(
        [one.loss_nats for one in alone], abs=1e-5
    )


def steps(net, config, corpus, execution, mesh):
    """Training losses, and the validation nats of every window."""
    execution = replace(execution, steps_per_dispatch=N_STEPS)
    program = compile_program(net, config, mesh, execution)
    rows = corpus.train_windows(0, N_STEPS * 8, seq_len=net.seq_len, seed=0)
    hyper = hyper_arrays(config)
    with jax.set_mesh(program.mesh):
        chunk = program.put(rows.reshape(N_STEPS, 8, -1))
        state = program.init(jax.random.key(0), hyper)
        state, told = program.train_chunk(state, hyper, chunk, jnp.int32(0), jnp.int32(N_STEPS))
        found = program.evaluate(state.params, chunk, jnp.int32(N_STEPS))
    return np.concatenate([np.asarray(told[LOSS]), np.ravel(found.nats)])


@pytest.mark.parametrize(
    "layout",
    [
        "fsdp_tensor",
        pytest.param("fsdp_context", marks=pytest.mark.slow(reason="as the other layout")),
    ],
)
def test_on_eight_devices_in_parts_and_computed_again_losses_are_those_of_one(
    network_config, config, corpus, layout
):
    plain = steps(network_config, config, corpus, PLAIN, (1, 1, 1, 1))
    fast = replace(PLAIN, **FAST, layout=layout)
    found = steps(network_config, config, corpus, fast, (1, 2, 2, 2))
    np.testing.assert_allclose(found, plain, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("objective", RATIOS)
def test_a_network_that_cannot_serve_is_refused_in_words(
    network_config, train_config, corpus, objective
):
    config = replace(train_config, objective=objective, mask_ratio=RATIOS[objective])
    cases = {
        r"'lstm' sees only what is before": vary(network_config, **OTHERS["hybrid"], n_layers=2),
        r"'attention' sees only what is before": vary(network_config, window=4),
        r"the 10 token ids of the data and the mask": replace(network_config, vocab_size=9),
        r"documents_apart=False": replace(network_config, separator=0),
    }
    for words, net in cases.items():
        with pytest.raises(ValueError, match=words) as refused:
            train_pack(net, [config], corpus)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": "masked"}, "mask_ratio=None with objective='masked'"),
        ({"objective": "masked", "mask_ratio": 1.5}, "above 0 and at most 1"),
        ({"objective": "diffusion", "mask_ratio": 0.5}, "for the others it is None"),
        ({"objective": "prefix"}, "must be one of next_token, masked, diffusion"),
    ],
)
def test_an_objective_and_its_ratio_that_do_not_fit_are_refused(train_config, changes, words):
    with pytest.raises(ValueError, match=words):
        replace(train_config, **changes)


def test_documents_scored_whole_are_refused(train_config):
    by_bytes = EvalConfig(n_bytes=100, curve_bytes=10, n_points=1, seed=0)
    with pytest.raises(ValueError, match=r"evaluation.n_bytes=100 scores documents"):
        replace(train_config, objective="diffusion", evaluation=by_bytes)
