# SPDX-License-Identifier: Apache-2.0
"""One process: the quickstart's networks on one core, and what a dispatch costs.

python -m experiments.benchmarks.small widths|dispatch
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.ours import peak
from experiments.cli import load_study
from experiments.plan import resolve
from experiments.point import Point
from experiments.worker import start_jax
from model.data.corpus import Corpus, open_corpus
from model.data.prepare import prepare
from model.execution import Execution
from model.training.loop import train
from model.training.optimizer import hyper_arrays
from model.training.step import Program, compile_program

WIDTHS = (16, 32, 64, 128, 256)
STEPS, REPEATS = 32, 5
# 117k parameters.
DISPATCH_WIDTH, DISPATCHES = 64, (1, 8, 32, 64)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("widths", "dispatch"))
    options = parser.parse_args()
    start_jax([min(os.sched_getaffinity(0))], None)
    with tempfile.TemporaryDirectory() as folder:
        study = load_study("quickstart")
        manifest = prepare(study.data, Path(folder))

        def point_of(d_model: int) -> Point:
            return resolve(study, manifest, budget=1e12, d_model=d_model, seed=0, axes={})

        if options.what == "widths":
            top = peak("float32")
            print(json.dumps([_width(point_of(d), top) for d in WIDTHS]))
        else:
            print(json.dumps(_dispatch(point_of(DISPATCH_WIDTH), open_corpus(manifest, folder))))


def _start(point: Point, steps_per_dispatch: int) -> tuple[Program, Any, Any]:
    """The compiled program, its state and the constants."""
    config = point.spec.train
    execution = Execution(steps_per_dispatch=steps_per_dispatch)
    program = compile_program(point.spec.model, config, (1, 1, 1, 1), execution)
    with jax.set_mesh(program.mesh):
        hyper = hyper_arrays(config)
        state = program.init(jax.random.key(0), hyper)
        chunk = program.put(np.zeros(program.batch_shape, np.int32))
        state, losses, _ = program.train_chunk(state, hyper, chunk, jnp.int32(1))
        losses.block_until_ready()
    return program, state, hyper


def _width(point: Point, top: float) -> dict[str, Any]:
    model, config = point.spec.model, point.spec.train
    began = time.perf_counter()
    program, state, hyper = _start(point, STEPS)
    compiling = time.perf_counter() - began
    with jax.set_mesh(program.mesh):
        chunk = program.put(np.zeros(program.batch_shape, np.int32))
        seconds = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            state, losses, _ = program.train_chunk(state, hyper, chunk, jnp.int32(STEPS))
            losses.block_until_ready()
            seconds.append((time.perf_counter() - began) / STEPS)
    step = statistics.median(seconds)
    flops = point.flops["matmul_full"] / config.schedule.n_steps
    return {
        "d_model": model.d_model,
        "n_params": point.params.total,
        "batch_size": config.batch_size,
        "tokens_per_second": round(config.batch_size * model.seq_len / step),
        "gflops": round(flops / step / 1e9, 1),
        "share_of_peak": round(flops / step / top, 3),
        "compile_seconds": round(compiling, 2),
    }


def _dispatch(point: Point, corpus: Corpus) -> dict[str, Any]:
    longest = max(DISPATCHES)
    program, state, hyper = _start(point, longest)
    half, whole = (_call(program, state, hyper, n) for n in (longest // 2, longest))
    # What grows with the steps of one call is the step itself; the rest is paid per call.
    inside = (whole - half) / (longest - longest // 2)
    rows = []
    for n in DISPATCHES:
        seconds = _as_the_loop(*_start(point, n), n)
        rows.append(
            {
                "steps_per_dispatch": n,
                "ms_per_step": round(1e3 * seconds, 3),
                "share_outside_the_step": round(max(0.0, 1 - inside / seconds), 3),
            }
        )
    return {
        "n_params": point.params.total,
        "batch_size": point.spec.train.batch_size,
        "ms_inside": round(1e3 * inside, 3),
        "rows": rows,
        **_stall(point, corpus),
    }


def _call(program: Program, state: Any, hyper: Any, n: int) -> float:
    """Least seconds of one call of ``n`` steps."""
    chunk = program.put(np.zeros(program.batch_shape, np.int32))
    state = jax.tree.map(jnp.copy, state)  # Donated: the caller keeps its own.
    best = float("inf")
    with jax.set_mesh(program.mesh):
        for _ in range(2 * REPEATS):
            began = time.perf_counter()
            state, losses, _ = program.train_chunk(state, hyper, chunk, jnp.int32(n))
            losses.block_until_ready()
            best = min(best, time.perf_counter() - began)
    return best


def _as_the_loop(program: Program, state: Any, hyper: Any, n: int) -> float:
    """Least seconds per step over some dispatches, fed and read one chunk late as train() does."""
    tokens = np.zeros(program.batch_shape, np.int32)
    n_calls = max(4, 2 * max(DISPATCHES) // n)

    def run() -> None:
        nonlocal state
        before = None
        for _ in range(n_calls):
            state, *metrics = program.train_chunk(state, hyper, program.put(tokens), jnp.int32(n))
            if before is not None:
                [np.asarray(metric) for metric in before]
            before = metrics
        jax.block_until_ready(before)

    with jax.set_mesh(program.mesh):
        return min(_timed(run) for _ in range(REPEATS)) / (n_calls * n)


def _timed(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _stall(point: Point, corpus: Corpus) -> dict[str, float]:
    """Seconds that a real run of 512 steps trained, and waited for data."""
    config = point.spec.train
    schedule = replace(config.schedule, n_steps=512, warmup_steps=0, decay_steps=0)
    evaluation = replace(config.evaluation, n_points=1, n_tokens=1024, curve_tokens=1024)
    config = replace(config, schedule=schedule, evaluation=evaluation)
    seconds = train(point.spec.model, config, corpus).seconds
    return {f"{name}_seconds": round(seconds[name], 4) for name in ("train", "stall")}


if __name__ == "__main__":
    main()
