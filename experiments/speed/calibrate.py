# SPDX-License-Identifier: Apache-2.0
"""Measures this machine's speed on a study's networks, by a few steps of each of some sizes."""

import time
from pathlib import Path

import numpy as np
from rich.console import Console

from experiments.executors.local_devices import cache_folder, local_workers
from experiments.machine.jax_setup import start_jax
from experiments.machine.peak import device_peak
from experiments.machine.provenance import device_facts
from experiments.plan.plan import Plan
from experiments.plan.point import Point
from experiments.speed.calibration import Calibration
from experiments.speed.packs import probe
from experiments.study.study import Study

N_PROBES = 6
STEPS = 32
PROBE_SECONDS = 2.0


def calibrate(study: Study, plan: Plan, results: Path, console: Console) -> Calibration:
    """Speeds of at most N_PROBES programs of the plan, from the least to the most work per step.

    On an accelerator also how many runs of each shape train best together, into
    ``results/packs.json``.
    """
    n_devices = int(np.prod(study.mesh))
    workers = local_workers(None, len(plan.points), n_devices)
    start_jax(list(workers.cores[0]), str(cache_folder()))
    known = device_peak(study.recipe.compute_dtype, n_devices)
    peak = known.flops_per_second
    console.print(f"peak {peak / 1e9:.0f} GFLOP/s per worker ({known.source})")
    speeds, compile_seconds = {}, []
    for point in _probes(plan):
        work = point.flops["matmul_full"] / point.spec.train.schedule.n_steps
        compiling, speeds[work] = _measure(point, study.mesh)
        compile_seconds.append(compiling)
        console.print(
            f"d_model {point.spec.model.d_model}, batch {point.spec.train.batch_size}: "
            f"{speeds[work] / 1e9:.0f} GFLOP/s ({speeds[work] / peak:.0%} of peak), "
            f"compiled in {compiling:.1f} s"
        )
    facts = device_facts()
    if facts["platform"] == "cpu":
        console.print("packs: on a CPU one process per core is the pack")
    elif n_devices == 1:
        probe(plan.points, results, console)
    return Calibration(
        device=facts["device"],
        flops_per_second=speeds,
        peak_flops_per_second=peak,
        compile_seconds=max(compile_seconds),
    )


def _probes(plan: Plan) -> list[Point]:
    def work(point: Point) -> float:
        return point.flops["matmul_full"] / point.spec.train.schedule.n_steps

    by_work = {work(point): point for point in plan.points}
    ordered = [by_work[key] for key in sorted(by_work)]
    chosen = np.linspace(0, len(ordered) - 1, min(N_PROBES, len(ordered))).round().astype(int)
    return [ordered[i] for i in sorted(set(chosen.tolist()))]


def _measure(point: Point, mesh: tuple[int, ...]) -> tuple[float, float]:
    """Seconds to compile, and FLOP/s of the training steps."""
    import jax
    import jax.numpy as jnp

    from model.training.optimizer import hyper_arrays
    from model.training.step import compile_program

    model, train = point.spec.model, point.spec.train
    began = time.perf_counter()
    program = compile_program(model, train, mesh)
    tokens = np.zeros((STEPS, train.batch_size, model.seq_len + 1), np.int32)
    with jax.set_mesh(program.mesh):
        hyper, batches = hyper_arrays(train), program.put(tokens)
        state = program.init(jax.random.key(0), hyper)
        state, losses, _ = program.train_chunk(state, hyper, batches, jnp.int32(1))
        losses.block_until_ready()
        compiling, began, n_steps = time.perf_counter() - began, time.perf_counter(), 0
        while time.perf_counter() - began < PROBE_SECONDS:
            state, losses, _ = program.train_chunk(state, hyper, batches, jnp.int32(STEPS))
            losses.block_until_ready()
            n_steps += STEPS
    flops = point.flops["matmul_full"] / train.schedule.n_steps * n_steps
    return compiling, flops / (time.perf_counter() - began)
