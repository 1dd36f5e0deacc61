# SPDX-License-Identifier: Apache-2.0
"""Networks without attention train as others do: every fast path, packs, Muon."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import OTHERS, RECURRENCES, vary

from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.network.counts.linear_recurrence import RecurrenceConfig
from model.network.execution import PLAIN, Execution
from model.training.compile_program import compile_program
from model.training.config import TrainConfig
from model.training.loop import train_pack
from model.training.optimizers.optimizer import hyper_arrays
from model.training.step import LOSS

N_STEPS = 5
FAST = {"layers": "scanned", "remat": "block", "n_microbatches": 2}
# An LSTM and a convolution, then the others alone.
MIXED = {"mixers": (*OTHERS["lstm"]["mixers"], OTHERS["convolution"]["mixers"][1])}
NETS = {"mixed": MIXED, **OTHERS, **RECURRENCES}


@pytest.fixture(params=NETS)
def net(network_config: ModelConfig, request: pytest.FixtureRequest) -> ModelConfig:
    """Each block of the pattern twice."""
    config = vary(network_config, **({"n_layers": 2} | NETS[request.param]))
    return replace(config, n_layers=2 * len(config.blocks))


@pytest.fixture
def losses(net: ModelConfig, corpus: Corpus) -> Callable:
    """(training, execution, mesh) -> losses of the first steps."""

    def losses(train: TrainConfig, execution: Execution, mesh: tuple[int, ...]) -> np.ndarray:
        execution = replace(execution, steps_per_dispatch=N_STEPS)
        program = compile_program(net, train, mesh, execution)
        rows = corpus.train_windows(0, N_STEPS * 8, seq_len=net.seq_len, seed=0)
        hyper = hyper_arrays(train)
        with jax.set_mesh(program.mesh):
            chunk = program.put(rows.reshape(N_STEPS, 8, -1))
            state = program.init(jax.random.key(0), hyper)
            arguments = (state, hyper, chunk, jnp.int32(0), jnp.int32(N_STEPS))
            return np.asarray(program.train_chunk(*arguments)[1][LOSS])

    return losses


@pytest.mark.slow(reason="11 s; quick: fast paths of attention, GRU and convolution on devices")
@pytest.mark.parametrize("algorithm", ["adamw", "muon"])
def test_scanned_and_computed_again_on_eight_devices_the_losses_are_those_of_one(
    net: ModelConfig,
    losses: Callable,
    train_config: TrainConfig,
    muon_config: TrainConfig,
    algorithm: str,
    capfd: pytest.CaptureFixture,
) -> None:
    train = muon_config if algorithm == "muon" else train_config
    plain = losses(train, PLAIN, (1, 1, 1, 1))
    found = losses(train, replace(PLAIN, **FAST), (1, 2, 2, 2))
    # Roundings of recurrences grow from step to step of so steep a fall: 2e-4 after five.
    is_recurrent = any(isinstance(block.mixer, RecurrenceConfig) for block in net.blocks)
    tolerance = 1e-3 if is_recurrent else 1e-5
    np.testing.assert_allclose(found[:2], plain[:2], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found, plain, rtol=0, atol=tolerance)
    assert plain[-1] < plain[0]
    assert "rematerialization" not in capfd.readouterr().err, "XLA could not place an array"


@pytest.mark.slow(reason="8 s; packs of attention are in the quick suite")
def test_every_run_of_a_pack_has_the_loss_that_it_has_alone(
    net: ModelConfig, train_config: TrainConfig, corpus: Corpus
) -> None:
    schedule = replace(train_config.schedule, n_steps=N_STEPS, warmup_steps=1, decay_steps=4)
    first = replace(train_config, schedule=schedule)
    configs = [first, replace(first, init_seed=1, data_seed=2)]
    net = replace(net, n_layers=len(net.blocks))
    packed = train_pack(net, configs, corpus)
    alone = [train_pack(net, [config], corpus)[0] for config in configs]
    assert [result.loss_nats for result in packed] == pytest.approx(
        [result.loss_nats for result in alone], abs=1e-5
    )
    assert abs(alone[0].loss_nats - alone[1].loss_nats) > 1e-3


def test_a_pack_of_linear_recurrences_ends_no_process(
    network_config: ModelConfig, train_config: TrainConfig, corpus: Corpus
) -> None:
    """Without `_safe_options` its first step is a segmentation fault with jaxlib 0.10.2. 5 s, and
    the only quick test that runs one."""
    schedule = replace(train_config.schedule, n_steps=1, warmup_steps=0, decay_steps=1)
    first = replace(train_config, schedule=schedule)
    net = vary(network_config, **RECURRENCES["mamba2"])
    packed = train_pack(net, [first, replace(first, init_seed=1)], corpus)
    losses = [result.loss_nats for result in packed]
    assert np.all(np.isfinite(losses))
    assert losses[0] != losses[1]
