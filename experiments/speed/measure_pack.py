# SPDX-License-Identifier: Apache-2.0
"""How fast packs of runs train on the device that is here."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from model.network.config import ModelConfig
from model.network.execution import AUTO, Execution
from model.training.compile_program import compile_program
from model.training.config import TrainConfig
from model.training.memory import TooLarge
from model.training.optimizers.optimizer import hyper_arrays


def measure(
    model: ModelConfig,
    train: TrainConfig,
    n_runs: int,
    *,
    seconds: float = 1.0,
    execution: Execution = AUTO,
    on_ready: Callable[[], None] = lambda: None,
) -> float | None:
    """Runs x steps per second of a pack on one device; None where its memory does not hold it.

    Training steps alone, on random tokens that lie on the device already: neither compilation, nor
    evaluation, nor checkpoints.

    Args:
      seconds: least time to measure for, after one step that is not counted.
      on_ready: called between that step and the others.
    """
    try:
        return _measured(model, train, n_runs, seconds, execution, on_ready)
    except TooLarge:
        return None
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None


def _measured(
    model: ModelConfig,
    train: TrainConfig,
    n_runs: int,
    seconds: float,
    execution: Execution,
    on_ready: Callable[[], None],
) -> float:
    program = compile_program(model, train, (1, 1, 1, 1), execution, n_runs=n_runs)
    shape = (*program.lead, program.n_chunk_steps, train.batch_size, model.seq_len + 1)
    tokens = np.random.default_rng(0).integers(model.vocab_size, size=shape, dtype=np.int32)
    with jax.set_mesh(program.mesh):
        hyper, batches = program.joined([hyper_arrays(train)] * n_runs), program.put(tokens)
        keys = [jax.random.key(run) for run in range(n_runs)]
        state = program.init(keys if program.lead else keys[0], hyper)

        def elapsed(n_steps: int) -> float:
            nonlocal state
            began = time.perf_counter()
            state, metrics = program.train_chunk(
                state, hyper, batches, jnp.int32(0), jnp.int32(n_steps)
            )
            jax.block_until_ready(metrics)
            return time.perf_counter() - began

        elapsed(1)  # Compiles.
        on_ready()
        # Dispatches of about a third of the time, or as many steps as one holds.
        n_steps = min(max(round(seconds / 3 / elapsed(1)), 1), program.n_chunk_steps)
        total = n_done = 0.0
        while total < seconds:
            total += elapsed(n_steps)
            n_done += n_steps
    return n_runs * n_done / total
