# SPDX-License-Identifier: Apache-2.0
"""make bench: training speed of the quickstart's networks on one core, as shares of its peak.

Writes results/benchmarks/speed.json and speed.md: FLOP/s (convention "matmul_full") and its share
of the matrix product peak measured in the same process, tokens/s, seconds to compile, and what the
data loader adds to a step.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cli import load_study
from experiments.executors.local import local_workers
from experiments.plan import resolve
from experiments.point import Point
from experiments.provenance import cpu_model, software_facts
from experiments.storage import replace_text
from experiments.study import Study
from experiments.worker import measure_peak_flops, start_jax
from model.data.batches import batches
from model.data.corpus import Corpus, open_corpus
from model.data.manifest import Manifest
from model.data.prepare import prepare
from model.training.optimizer import hyper_arrays
from model.training.step import compile_program

WIDTHS = (16, 32, 64, 128, 256)
STEPS = 32
REPEATS = 5


def main() -> None:
    study = load_study("quickstart")
    folder = Path("results") / "benchmarks"
    with tempfile.TemporaryDirectory() as data:
        manifest = prepare(study.data, Path(data))
        rows, peak = _rows(study, manifest, open_corpus(manifest, data))
    record = {
        "command": "make bench",
        "device": cpu_model(),
        "cores": 1,
        "peak_gflops": peak / 1e9,
        **software_facts(),
        "rows": rows,
    }
    replace_text(folder / "speed.json", json.dumps(record, indent=1) + "\n")
    replace_text(folder / "speed.md", _page(record))


def _rows(study: Study, manifest: Manifest, corpus: Corpus) -> tuple[list[dict], float]:
    start_jax(list(local_workers(None, 2, 1).cores[0]), None)
    peak = measure_peak_flops(1.0)
    rows = []
    for d_model in WIDTHS:
        point = resolve(study, manifest, budget=1e12, d_model=d_model, seed=0, axes={})
        rows.append(_measure(point, corpus, peak))
        print(json.dumps(rows[-1]), flush=True)
    return rows, peak


def _measure(point: Point, corpus: Any, peak: float) -> dict[str, Any]:
    model, train = point.spec.model, point.spec.train
    began = time.perf_counter()
    program = compile_program(model, train, (1, 1, 1, 1))
    tokens = np.zeros((STEPS, train.batch_size, model.seq_len + 1), np.int32)
    with jax.set_mesh(program.mesh):
        hyper = hyper_arrays(train)
        state = program.init(jax.random.key(0), hyper)
        chunk = program.put(tokens)
        state, losses, _ = program.train_chunk(state, hyper, chunk, jnp.int32(1))
        losses.block_until_ready()
        compiling = time.perf_counter() - began
        seconds = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            state, losses, _ = program.train_chunk(state, hyper, chunk, jnp.int32(STEPS))
            losses.block_until_ready()
            seconds.append((time.perf_counter() - began) / STEPS)
    step = float(np.median(seconds))
    flops = point.flops["matmul_full"] / train.schedule.n_steps
    loader = _loader_seconds(corpus, train.batch_size, model.seq_len)
    return {
        "d_model": model.d_model,
        "n_params": point.params.total,
        "batch_size": train.batch_size,
        "tokens_per_second": round(train.batch_size * model.seq_len / step),
        "gflops": round(flops / step / 1e9, 1),
        "share_of_peak": round(flops / step / peak, 3),
        "loader_share_of_step": round(loader / step, 4),
        "compile_seconds": round(compiling, 2),
    }


def _loader_seconds(corpus: Any, batch_size: int, seq_len: int) -> float:
    """Seconds per step of the loader alone, after the first chunk (it orders the epoch)."""
    n_steps = 10 * STEPS
    data = batches(
        corpus,
        batch_size=batch_size,
        seq_len=seq_len,
        n_steps=n_steps,
        seed=0,
        steps_per_chunk=STEPS,
    )
    next(data)
    began = time.perf_counter()
    for _ in data:
        pass
    return (time.perf_counter() - began) / (n_steps - STEPS)


def _page(record: dict[str, Any]) -> str:
    names = list(record["rows"][0])
    lines = [
        "# Training speed on one core",
        "",
        f"`{record['command']}` on {record['device']}, one core, float32; matrix product peak "
        f"{record['peak_gflops']:.0f} GFLOP/s; Python {record['python']}, jax "
        f"{record['version_jax']}. FLOPs: matmul_full. Not measured on a GPU.",
        "",
        f"| {' | '.join(names)} |",
        f"|{'---|' * len(names)}",
    ]
    lines += [f"| {' | '.join(str(row[name]) for name in names)} |" for row in record["rows"]]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
