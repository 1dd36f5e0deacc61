# SPDX-License-Identifier: Apache-2.0
"""One process, our system: seconds per training step, one line of JSON for each setting.

  python -m experiments.benchmarks.speed.ours cpu|gpu SETTING...

Imports neither the data loader nor checkpoints: a bare machine with JAX, Flax, Optax, msgspec and
jaxtyping will do.
"""

import argparse
import json
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks.speed import networks
from experiments.benchmarks.speed.networks import Setting
from experiments.machine.peak import ACCELERATOR_SIZE
from experiments.machine.peak import measure as measure_peak
from model.network.counts.total import count_params
from model.network.execution import Execution
from model.training.compile_program import compile_program
from model.training.optimizers.optimizer import hyper_arrays
from model.training.program import Program


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("device", choices=("cpu", "gpu"))
    parser.add_argument("settings", nargs="+", choices=networks.SETTINGS)
    parser.add_argument("--threads", type=int, default=2, help="of a CPU")
    options = parser.parse_args()
    if options.device == "cpu":
        from experiments.machine.jax_setup import start_jax

        start_jax([], None, options.threads, options.threads)
    elif jax.default_backend() != "gpu":
        parser.error(f"JAX sees no GPU here but {jax.devices()}. Install jax[cuda], or say cpu.")
    # Of a CPU each core is a device, as with mesh=1,2,1,1.
    n_devices = options.threads if options.device == "cpu" else 1
    for name in options.settings:
        print(json.dumps(measure_largest(networks.SETTINGS[name], n_devices)), flush=True)


def measure_largest(setting: Setting, n_devices: int = 1) -> dict[str, Any]:
    """With the largest batch, halved as often as needed, that fits without remat."""
    try:
        return measure(setting, n_devices)
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        is_memory = "n_microbatches" in str(error) or "RESOURCE_EXHAUSTED" in str(error)
        if not is_memory or setting.batch_size == 1:
            raise
    return measure_largest(networks.halved(setting), n_devices)


def measure(setting: Setting, n_devices: int) -> dict[str, Any]:
    """Of a batch that so many devices split."""
    train = networks.train_config(setting.batch_size, setting.dtype)
    execution = Execution(remat="none", n_microbatches=1, steps_per_dispatch=setting.n_steps)
    began = time.perf_counter()
    program = compile_program(setting.model, train, (1, n_devices, 1, 1), execution)
    with jax.set_mesh(program.mesh):
        hyper = hyper_arrays(train)
        state = program.init(jax.random.key(0), hyper)
        n_params = sum(weight.size for weight in jax.tree.leaves(state.params))
        assert n_params == count_params(setting.model).total, n_params
        batches = program.put(networks.tokens(setting))
        state, metrics = program.train_chunk(state, hyper, batches, jnp.int32(0), jnp.int32(1))
        first_loss = float(metrics["loss_nats"][0])
        first = time.perf_counter() - began
        ask = program, state, hyper, batches, setting.n_steps
        repeats = _seconds_per_step(*ask, 1 + setting.n_repeats)[1:]
    size = 2048 if jax.default_backend() == "cpu" else ACCELERATOR_SIZE
    return {
        "setting": setting.name,
        "batch_size": setting.batch_size,
        "n_devices": n_devices,
        "seconds": statistics.median(repeats),
        "first_step_seconds": first,
        "first_loss": first_loss,
        "n_params": n_params,
        "execution": program.execution.to_text(),
        "peak_flops_per_second": measure_peak(setting.dtype, size, n_devices, seconds=0.5),
        "device_kind": jax.devices()[0].device_kind,
        "versions": {"jax": jax.__version__},
    }


def _seconds_per_step(
    program: Program, state: Any, hyper: Any, batches: Any, n_steps: int, n_repeats: int
) -> list[float]:
    seconds, n = [], jnp.int32(n_steps)
    for _ in range(n_repeats):
        began = time.perf_counter()
        state, metrics = program.train_chunk(state, hyper, batches, jnp.int32(0), n)
        jax.block_until_ready(metrics)
        seconds.append((time.perf_counter() - began) / n_steps)
    return seconds


if __name__ == "__main__":
    main()
