# SPDX-License-Identifier: Apache-2.0
"""One tiny network, one run of 20 steps and one language, shared so that programs compile once."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Event

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore
from small_networks import vary

from model.data.corpus import Corpus, open_corpus
from model.data.source import Zipf
from model.data.synthetic.zipf import describe
from model.network.config import ModelConfig
from model.training.compile_program import compile_program
from model.training.config import (
    ROLES,
    EvalConfig,
    GroupConfig,
    MuonConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)
from model.training.optimizers.optimizer import hyper_arrays
from model.training.step import GRAD_NORM, LOSS, TrainState

N_STEPS = 20


@pytest.fixture
def halted_writer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Event]:
    """Until it is set, no array of a checkpoint is opened for writing."""
    may_write, open_array = Event(), tensorstore.open

    def patient(*args: object, **options: object) -> object:
        assert may_write.wait(30)
        return open_array(*args, **options)

    monkeypatch.setattr(tensorstore, "open", patient)
    yield may_write
    may_write.set()


@pytest.fixture(scope="session")
def network_config(llama: ModelConfig) -> ModelConfig:
    """Every axis of a 2x2x2 mesh divides it, and its width and batch 8 of one axis."""
    return vary(
        llama,
        vocab_size=16,
        seq_len=16,
        n_layers=1,
        n_heads=2,
        n_kv_heads=2,
        d_ff=24,
        use_qk_norm=True,
        hidden_init_gain=1.0,
        branch_init_gain=1.0,
        output_init_std=0.2,
        residual_multiplier=0.7,
        logit_multiplier=1.3,
    )


@pytest.fixture(scope="session")
def train_config() -> TrainConfig:
    """Chunks of up to 7 steps end at 7, 10, 17, 20; the curve has points at 10 and 20."""
    rates = {"input": 2e-2, "hidden": 1e-2, "output": 5e-3, "vector": 3e-3}
    rates["final_norm"] = rates["vector"]
    decays = {"input": 0.3, "hidden": 0.4, "output": 0.2, "vector": 0.1, "final_norm": 0.1}
    groups = {
        role: GroupConfig(learning_rate=rates[role], weight_decay=decays[role], eps=1e-8)
        for role in rates
    }
    return TrainConfig(
        batch_size=8,
        optimizer=OptimizerConfig(
            algorithm="adamw", muon=None, **groups, beta1=0.9, beta2=0.95, clip_norm=1.0
        ),
        schedule=ScheduleConfig(
            n_steps=N_STEPS, warmup_steps=3, decay_steps=12, decay="linear", final_fraction=0.0
        ),
        evaluation=EvalConfig(n_tokens=700, curve_tokens=100, n_points=2, seed=3),
        z_loss_weight=1e-3,
        compute_dtype="float32",
        init_seed=0,
        data_seed=0,
    )


@pytest.fixture(scope="session")
def muon_config(train_config: TrainConfig) -> TrainConfig:
    """The same run with Muon."""
    optimizer = replace(
        train_config.optimizer,
        algorithm="muon",
        muon=MuonConfig(momentum=0.9, nesterov=True, ns_steps=5, scale="spectral"),
        hidden=GroupConfig(learning_rate=0.05, weight_decay=0.4, eps=1e-8),
    )
    return replace(train_config, optimizer=optimizer)


@pytest.fixture(scope="session")
def still_config(train_config: TrainConfig) -> TrainConfig:
    """One step with all rates at zero: the reported losses are those of the initial network."""
    optimizer = train_config.optimizer
    for role in ROLES:
        group = replace(getattr(optimizer, role), learning_rate=0.0)
        optimizer = replace(optimizer, **{role: group})
    schedule = ScheduleConfig(
        n_steps=1, warmup_steps=0, decay_steps=0, decay="linear", final_fraction=0.0
    )
    evaluation = replace(train_config.evaluation, n_points=1)
    return replace(train_config, optimizer=optimizer, schedule=schedule, evaluation=evaluation)


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """Records of 4 tokens over 9 ids; four records fill a window."""
    source = Zipf(alpha=0.5, epsilon=0.1, base=8, n_digits=2, n_answers=1, language_seed=0)
    return open_corpus(describe(source), "")


@pytest.fixture(scope="session")
def run_steps(network_config: ModelConfig, corpus: Corpus) -> Callable:
    """(config, n, mesh) -> (state, losses [n], gradient norms [n]) of the first n steps."""

    def run(
        config: TrainConfig, n: int = N_STEPS, mesh: tuple[int, ...] = (1, 1, 1, 1)
    ) -> tuple[TrainState, np.ndarray, np.ndarray]:
        program = compile_program(network_config, config, mesh)
        seq_len, seed = network_config.seq_len, config.data_seed
        rows = corpus.train_windows(0, 32 * config.batch_size, seq_len=seq_len, seed=seed)
        chunk = rows.reshape(32, config.batch_size, -1)
        hyper = hyper_arrays(config)
        with jax.set_mesh(program.mesh):
            state = program.init(jax.random.key(config.init_seed), hyper)
            state, metrics = program.train_chunk(
                state, hyper, program.put(chunk), jnp.int32(0), jnp.int32(n)
            )
        losses, norms = (np.asarray(metrics[name])[:n] for name in (LOSS, GRAD_NORM))
        return state, losses, norms

    return run
