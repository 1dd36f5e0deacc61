# SPDX-License-Identifier: Apache-2.0
"""From a network, its training and a mesh to a program that fits into memory; cached by shape."""

import functools
from importlib.metadata import version

import jax
import jax.numpy as jnp

from model.network.config import ModelConfig
from model.network.counts.linear_recurrence import RecurrenceConfig
from model.network.execution import AUTO, Execution
from model.network.sharding import make_mesh
from model.training import memory
from model.training.config import Algorithm, TrainConfig
from model.training.mapped_step import abstract_state, evaluate_runs, init_runs, train_runs
from model.training.optimizers.optimizer import DATA_SEED, hyper_arrays
from model.training.program import Program
from model.training.step import computation, evaluate, init_state, train_chunk


def compile_program(
    model: ModelConfig,
    train: TrainConfig,
    mesh_shape: tuple[int, ...],
    execution: Execution = AUTO,
    devices: tuple[jax.Device, ...] | None = None,
    n_runs: int = 1,
) -> Program:
    """The program of a network; cached, so that points of one shape compile once per process.

    What ``execution`` leaves open is chosen here: kernels by the platform, remat and then
    accumulation by the memory that the compiled programs need, training's and evaluation's, where
    the device says what it has.

    Args:
      devices: see ``make_mesh``.
      n_runs: runs that train together, all alike in what ``train`` says of batch, dtype and
        compiled algorithm.

    Raises:
      ValueError: if the mesh or a kernel does not fit the network.
      TooLarge: a ValueError, if nothing fits into memory.
    """
    mesh = make_mesh(mesh_shape, devices)
    limit, hyper = memory.limit_bytes(mesh), hyper_arrays(train)
    for candidate in memory.candidates(execution, model, train, mesh, n_runs):
        algorithm = train.optimizer.compiled
        shape = (train.compute_dtype, train.batch_size, algorithm, train.objective, n_runs)
        program = _program(model, *shape, mesh, candidate)
        if limit is None:
            return program
        need = _needed_bytes(program, tuple(hyper))
        if need <= limit:
            n_windows = -(-train.evaluation.sizes[0] // model.seq_len)
            need = max(need, _evaluation_bytes(program, tuple(hyper), n_windows))
        if need <= limit:
            return program
    assert limit is not None
    raise memory.TooLarge(memory.refusal(model, train, candidate, need, limit, n_runs))


def evaluation_program(
    model: ModelConfig, train: TrainConfig, mesh_shape: tuple[int, ...]
) -> Program:
    """The program of a network that is only evaluated: what its training needs is not asked."""
    mesh = make_mesh(mesh_shape)
    execution = next(memory.candidates(AUTO, model, train, mesh))
    algorithm = train.optimizer.compiled
    shape = (train.compute_dtype, train.batch_size, algorithm, train.objective, 1)
    return _program(model, *shape, mesh, execution)


@functools.cache
def _needed_bytes(program: Program, names: tuple[str, ...]) -> float:
    """Measured once for all runs of a program; ``names`` are those of its Hyper."""
    return memory.needed_bytes(program.lowered(_any_hyper(names)))


@functools.cache
def _evaluation_bytes(program: Program, names: tuple[str, ...], n_windows: int) -> float:
    """Of the evaluation, while the moments of training wait beside it."""
    hyper = _any_hyper(names)
    moments = memory.local_bytes(program.abstract_state(hyper).opt_state)
    return moments + memory.needed_bytes(program.lowered_evaluation(hyper, n_windows))


def _any_hyper(names: tuple[str, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    types = {DATA_SEED: jnp.uint32}
    return {name: jax.ShapeDtypeStruct((), types.get(name, jnp.float32)) for name in names}


@functools.cache
def _program(
    config: ModelConfig,
    compute_dtype: str,
    batch_size: int,
    algorithm: Algorithm,
    objective_name: str,
    n_runs: int,
    mesh: jax.sharding.Mesh,
    execution: Execution,
) -> Program:
    this = computation(
        config,
        compute_dtype=compute_dtype,
        algorithm=algorithm,
        objective_name=objective_name,
        mesh=mesh,
        execution=execution,
    )
    # Two at least: XLA folds an axis of one away and sums the loss in another order.
    n_steps = max(execution.steps_per_dispatch, 2)
    is_pack = n_runs > 1
    init, chunk, evaluation = (
        (init_runs, train_runs, evaluate_runs) if is_pack else (init_state, train_chunk, evaluate)
    )
    return Program(
        mesh=mesh,
        execution=execution,
        n_runs=n_runs,
        objective=this.objective,
        batch_shapes={
            name: jax.ShapeDtypeStruct((n_steps, *shape), dtype)
            for name, (shape, dtype) in this.objective.arrays(config, batch_size).items()
        },
        init=functools.partial(init, this),
        train_chunk=jax.jit(
            functools.partial(chunk, this),
            donate_argnums=0,
            compiler_options=compiler_options(config, execution, mesh),
        ),
        evaluate=jax.jit(
            functools.partial(evaluation, this), compiler_options=_safe_options(config, mesh)
        ),
        abstract_state=functools.partial(abstract_state, this, n_runs),
    )


def compiler_options(
    config: ModelConfig, execution: Execution, mesh: jax.sharding.Mesh
) -> dict[str, bool | str]:
    """XLA's newer way of emitting fusions for networks with GELU, which train a seventh slower
    without, and for attention in blocks, which takes 1.4 times as long;
    `jax_setup.quick_flags` turns it off, for all else compiles faster and is as fast. jaxlib 0.10
    alone knows the option.
    """
    kinds = {block.channel_mixer.kind for block in config.blocks if block.channel_mixer is not None}
    is_wanted = "gelu" in kinds or execution.attention == "blocked"
    newer = {"xla_cpu_use_fusion_emitters": True}
    return _safe_options(config, mesh) | (newer if is_wanted and _is_known(mesh) else {})


def _safe_options(config: ModelConfig, mesh: jax.sharding.Mesh) -> dict[str, bool | str]:
    """A pack of linear recurrences has products over eight axes, at which the library that XLA
    gives them to on CPUs ends the process with a segmentation fault (jaxlib 0.10.2): without it."""
    is_recurrent = any(isinstance(block.mixer, RecurrenceConfig) for block in config.blocks)
    no_library: dict[str, bool | str] = {"xla_cpu_experimental_ynn_fusion_type": ""}
    return no_library if is_recurrent and _is_known(mesh) else {}


def _is_known(mesh: jax.sharding.Mesh) -> bool:
    return mesh.devices.flat[0].platform == "cpu" and version("jaxlib").startswith("0.10.")
