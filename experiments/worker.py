# SPDX-License-Identifier: Apache-2.0
"""One process that trains points: the only module that imports the training loop.

It reads ids from its standard input, one per line, reads each point from disk, writes the result
to disk, and answers with one line of JSON per event. It ends when its input ends, so it never
outlives its runner.
"""

import argparse
import dataclasses
import errno
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments.ledger import Ledger
from experiments.point import Point
from experiments.provenance import EnergyMeter, provenance
from model.data.manifest import Manifest, bits_per_byte

EXIT_BAD_SPEC, EXIT_DISK = 2, 74

Train = Callable[..., Any]


def train_point(
    ledger: Ledger,
    point: Point,
    corpus: Any,
    mesh_shape: tuple[int, ...],
    *,
    emit: Callable[[dict], None] = lambda event: None,
    train: Train | None = None,
    checkpoint_seconds: float = 60.0,
    peak_flops_per_second: float = 0.0,
) -> dict[str, Any]:
    """Trains one point and records its result; the record that was written or already there.

    Args:
      train: the training function; the real one when None.
      peak_flops_per_second: measured on this worker, recorded with the result.

    Raises:
      ValueError: if the data are not those the point was planned for.
    """
    if (record := ledger.read_result(point.id)) is not None:
        return record
    if point.spec.data_fingerprint != corpus.manifest.fingerprint:
        raise ValueError(
            f"run {point.id} was planned for other data ({point.spec.data_fingerprint[:12]}) than "
            f"lie in {ledger.data} ({corpus.manifest.fingerprint[:12]}). Run the study again."
        )
    train = train or _real_train()
    from model.training.checkpoint import Checkpoints

    checkpoints = Checkpoints(ledger.checkpoints(point.id))
    energy = EnergyMeter()
    began = time.time()
    with ledger.metrics(point.id).open("w") as metrics:

        def on_progress(progress: Any) -> None:
            row = dataclasses.asdict(progress)
            energy.joules()  # Often enough that no counter starts over twice.
            metrics.write(json.dumps(row) + "\n")
            metrics.flush()
            emit({"event": "progress", "id": point.id} | row)

        result = train(
            point.spec.model,
            point.spec.train,
            corpus,
            mesh_shape=mesh_shape,
            checkpoints=checkpoints,
            checkpoint_seconds=checkpoint_seconds,
            on_progress=on_progress,
        )
    record = _record(point, result, corpus, mesh_shape, time.time() - began)
    joules, source = energy.stop()
    record["costs"] |= {
        "peak_flops_per_second": round(peak_flops_per_second),
        "joules": joules,
        "joules_source": source,
        **provenance(),
    }
    ledger.write_result(point.id, record)
    checkpoints.delete()
    return record


def _real_train() -> Train:
    from model.training.loop import train

    return train


def _record(
    point: Point, result: Any, corpus: Any, mesh_shape: tuple[int, ...], wall_seconds: float
) -> dict[str, Any]:
    manifest = corpus.manifest
    loss = result.loss_nats
    train_seconds = max(result.seconds["train"], 1e-9)
    n_trained = result.n_steps - result.resumed_at
    flops = point.flops["matmul_full"] * n_trained / point.spec.train.schedule.n_steps
    return {
        "status": result.status,
        "reason": result.reason,
        "loss_nats": loss,
        "bits_per_byte": None if loss is None else bits_per_byte(loss, manifest.bytes_per_token),
        "oracle_loss_nats": result.oracle_loss_nats,
        "curve": [dataclasses.asdict(row) for row in result.curve],
        "params_sha256": result.params_sha256,
        "notes": list(result.notes),
        "costs": {
            "wall_seconds": round(wall_seconds, 3),
            **{f"{name}_seconds": round(s, 3) for name, s in result.seconds.items()},
            "resumed_at": result.resumed_at,
            "flops_per_second": round(flops / train_seconds),
            "mesh": "x".join(map(str, mesh_shape)),
        },
    }


def measure_peak_flops(seconds: float = 0.3) -> float:
    """Best FLOP/s of square float32 matrix products on this worker's device."""
    import jax
    import jax.numpy as jnp

    n = 1024
    a = jnp.ones((n, n), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    best, began = 0.0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        product(a).block_until_ready()
        best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


def start_jax(cores: list[int], cache: str | None) -> None:
    """Pins this process to its cores before JAX sizes its thread pools, and caches compilation."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    import jax

    if cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--study", required=True)
    parser.add_argument("--mesh", required=True, help="four sizes, comma separated")
    parser.add_argument("--cores", default="", help="pin to these, comma separated")
    parser.add_argument("--cache", default=None, help="folder of compiled programs")
    parser.add_argument("--checkpoint-seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    # Ctrl-C reaches the whole process group; it is the runner that stops, and then its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_runner()
    start_jax([int(core) for core in arguments.cores.split(",") if core], arguments.cache)
    from model.data.corpus import open_corpus

    ledger = Ledger(arguments.results, arguments.study)
    mesh_shape = tuple(int(size) for size in arguments.mesh.split(","))
    try:
        corpus = open_corpus(Manifest.read(ledger.manifest), ledger.data)
        peak = measure_peak_flops()
        for point_id in _ids():
            point = ledger.read_point(point_id)
            record = train_point(
                ledger,
                point,
                corpus,
                mesh_shape,
                emit=_emit,
                checkpoint_seconds=arguments.checkpoint_seconds,
                peak_flops_per_second=peak,
            )
            keys = ("status", "loss_nats", "reason", "notes", "costs")
            _emit({"event": "done", "id": point_id} | {key: record[key] for key in keys})
    except ValueError as error:
        _emit({"event": "refused", "reason": str(error)})
        sys.exit(EXIT_BAD_SPEC)
    except OSError as error:
        reason = f"cannot write {error.filename or ledger.folder}: {error.strerror}."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _emit({"event": "disk", "reason": reason})
            sys.exit(EXIT_DISK)
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            _emit({"event": "refused", "reason": reason})
            sys.exit(EXIT_BAD_SPEC)
        raise


_lines: "list[str]" = []
_arrived = threading.Condition()


def _end_with_runner() -> None:
    """Reads ids in a thread that ends the process when the runner closes the pipe or dies."""

    def read() -> None:
        for line in sys.stdin:
            with _arrived:
                _lines.append(line.strip())
                _arrived.notify()
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()


def _ids() -> Iterator[str]:
    while True:
        with _arrived:
            _arrived.wait_for(lambda: _lines)
            line = _lines.pop(0)
        yield line


def _emit(event: dict) -> None:
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    main()
