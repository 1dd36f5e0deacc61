# SPDX-License-Identifier: Apache-2.0
"""Measures this machine's speed on points' networks, by a few steps of each of some sizes.

As a program it reads points, one line of JSON each, and keeps what it measures:

  python -m experiments.speed.calibrate --results DIR --mesh 1,1,1,1 < points.jsonl
"""

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from experiments.executors.local_devices import worker_places
from experiments.machine.jax_setup import cache_folder, start_jax
from experiments.machine.peak import device_peak
from experiments.machine.provenance import device_facts
from experiments.plan.point import Point, point_from_json
from experiments.speed import calibration
from experiments.speed.calibration import Calibration
from experiments.speed.pack_sizes import known_speeds, search, shape_key, store

N_PROBES = 6
STEPS = 32
PROBE_SECONDS = 2.0


def calibrate(
    points: Sequence[Point], mesh: tuple[int, ...], *, results: Path, console: Console
) -> None:
    """Measures at most N_PROBES programs of the points, from the least to the most work per step.

    Into ``results/calibration.json``; on an accelerator also how many runs of each shape train best
    together, into ``results/packs.json``.
    """
    n_devices = int(np.prod(mesh))
    cores = worker_places(None, len(points), n_devices)[0].cores
    start_jax(cores, cache_folder(), n_devices=n_devices)
    known = device_peak(points[0].spec.train.compute_dtype, n_devices)
    peak = known.flops_per_second
    console.print(f"peak {peak / 1e9:.0f} GFLOP/s per worker ({known.source})")
    speeds, compile_seconds = {}, []
    for point in _probes(points):
        compiling, speed = _measure(point, mesh)
        compile_seconds.append(compiling)
        speeds[point.flops_per_step] = speed
        console.print(
            f"d_model {point.spec.model.d_model}, batch {point.spec.train.batch_size}: "
            f"{speed / 1e9:.0f} GFLOP/s ({speed / peak:.0%} of peak), compiled in {compiling:.1f} s"
        )
    facts = device_facts()
    if facts["platform"] == "cpu":
        console.print("packs: on a CPU one process per core is the pack")
    elif n_devices == 1:
        measure_packs(points, results, console)
    measured = Calibration(
        device=facts["device"],
        flops_per_second=speeds,
        peak_flops_per_second=peak,
        compile_seconds=statistics.fmean(compile_seconds),
    )
    calibration.store(results, measured, n_devices)


def _probes(points: Sequence[Point]) -> list[Point]:
    by_work = {point.flops_per_step: point for point in points}
    ordered = [by_work[key] for key in sorted(by_work)]
    chosen = np.linspace(0, len(ordered) - 1, min(N_PROBES, len(ordered))).round().astype(int)
    return [ordered[i] for i in sorted(set(chosen.tolist()))]


def _measure(point: Point, mesh: tuple[int, ...]) -> tuple[float, float]:
    """Seconds to compile, and FLOP/s of the training steps."""
    import jax
    import jax.numpy as jnp

    from model.training.compile_program import compile_program
    from model.training.optimizers.optimizer import hyper_arrays

    model, train = point.spec.model, point.spec.train
    began = time.perf_counter()
    program = compile_program(model, train, mesh)
    tokens = np.zeros((STEPS, train.batch_size, model.seq_len + 1), np.int32)
    with jax.set_mesh(program.mesh):
        hyper, batches = hyper_arrays(train), program.put(tokens)
        state = program.init(jax.random.key(0), hyper)
        state, metrics = program.train_chunk(state, hyper, batches, jnp.int32(0), jnp.int32(1))
        jax.block_until_ready(metrics)
        compiling, began, n_steps = time.perf_counter() - began, time.perf_counter(), 0
        while time.perf_counter() - began < PROBE_SECONDS:
            state, metrics = program.train_chunk(
                state, hyper, batches, jnp.int32(0), jnp.int32(STEPS)
            )
            jax.block_until_ready(metrics)
            n_steps += STEPS
    return compiling, point.flops_per_step * n_steps / (time.perf_counter() - began)


def measure_packs(points: Sequence[Point], results: Path, console: Console) -> None:
    """Measures packs of every shape of the points that is not known yet on this process's device.

    A few seconds a size, most of it compilation. The process must have been set up as a worker's
    is: on a CPU pinned to one core (machine/jax_setup.py).
    """
    from experiments.speed.measure_pack import measure

    device = device_facts()["device"]
    shapes = {shape_key(point): point for point in points}
    for key in sorted(shapes):
        if known_speeds(results, device, key) is not None:
            continue
        spec = shapes[key].spec
        if found := search(functools.partial(measure, spec.model, spec.train)):
            store(results, device, key, found)
            speeds = found.run_steps_per_second
            sizes = ", ".join(f"{size}: {speed:.4g}" for size, speed in speeds.items())
            console.print(f"{key}: packs of {found.best} (runs x steps / s by size: {sizes})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--mesh", default="1,1,1,1")
    options = parser.parse_args()
    points = [point_from_json(line) for line in sys.stdin]
    mesh = tuple(int(size) for size in options.mesh.split(","))
    calibrate(points, mesh, results=options.results, console=Console(highlight=False))


if __name__ == "__main__":
    main()
