# SPDX-License-Identifier: Apache-2.0
"""Runs per hour that train together, by width; also the process that measures one width.

  python -m experiments.benchmarks.speed.packs cpu|gpu WIDTH SIZE ... [--core N]

Packs of 1, 2, 4, ... runs train in one process, on a CPU with all of its cores, and there once more
one run after another in one process per core, all at once. A run has 20 tokens per parameter; its
hours are those of its steps, without compilation, evaluation and checkpoints.
"""

import argparse
import json
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from experiments.benchmarks.speed import networks, processes
from experiments.benchmarks.speed.networks import llama
from model.network.config import ModelConfig
from model.network.counts.total import count_params

WIDTHS = (32, 64, 128, 256, 512)
TOKENS_PER_PARAM = 20
# A GPU goes on until its memory or its time ends.
SIZES = {"cpu": (1, 2, 4), "gpu": tuple(2**i for i in range(9))}
# For one width: what was printed until then counts.
PROCESS_SECONDS = 110.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("device", choices=SIZES)
    parser.add_argument("d_model", type=int)
    parser.add_argument("sizes", type=int, nargs="+", help="runs in a pack")
    parser.add_argument("--core", type=int, help="none is all of them")
    options = parser.parse_args()
    if options.device == "cpu":
        from experiments.machine.jax_setup import start_jax

        cores = sorted(os.sched_getaffinity(0)) if options.core is None else [options.core]
        start_jax(cores, None)
    import jax

    from experiments.speed.measure_pack import measure

    if jax.default_backend() != options.device:
        parser.error(f"JAX sees no {options.device} here but {jax.devices()}.")
    model, batch_size, dtype = network(options.device, options.d_model)
    where = {"device": jax.devices()[0].device_kind, "versions": {"jax": jax.__version__}}
    for size in options.sizes:
        speed = measure(model, networks.train_config(batch_size, dtype), size)
        if speed is None:
            return
        print(json.dumps({"n_runs": size, "run_steps_per_second": speed} | where), flush=True)


def network(device: str, d_model: int) -> tuple[ModelConfig, int, Literal["float32", "bfloat16"]]:
    """Network, batch in sequences, dtype."""
    if device == "cpu":
        return llama(d_model, 4, max(d_model // 32, 1), 3 * d_model, 128, 512), 8, "float32"
    return llama(d_model, 6, max(d_model // 64, 1), 3 * d_model, 512, 8192), 16, "bfloat16"


def measured(device: str, widths: Sequence[int], seconds: float) -> Iterator[dict[str, Any]]:
    """Device, versions and rows, after each width.

    Args:
      seconds: for one process.
    """
    record: dict[str, Any] = {"rows": []}
    for d_model in widths:
        found, reason = _process(device, d_model, *SIZES[device], seconds=seconds)
        if found:
            record |= {key: found[0][key] for key in ("device", "versions")}
            speeds = {line["n_runs"]: line["run_steps_per_second"] for line in found}
            each = sum(_per_core(d_model)) if device == "cpu" else None
            record["rows"].append(row(device, d_model, speeds, each))
        else:
            record["rows"].append({"d_model": d_model, "not_measured": reason})
        yield record


def _process(
    device: str, d_model: int, *sizes: int, seconds: float = PROCESS_SECONDS, options: Any = ()
) -> tuple[list[Any], str]:
    words = (device, str(d_model), *map(str, sizes), *options)
    return processes.lines("packs", *words, seconds=min(seconds, PROCESS_SECONDS))


def _per_core(d_model: int) -> list[float]:
    """Steps per second of one process per core, all at once."""

    def one(core: int) -> float:
        found, reason = _process("cpu", d_model, 1, options=("--core", str(core)))
        if not found:
            raise SystemExit(f"no speed of core {core}: {reason}")
        return found[0]["run_steps_per_second"]

    cores = sorted(os.sched_getaffinity(0))
    with ThreadPoolExecutor(len(cores)) as pool:
        return list(pool.map(one, cores))


def row(
    device: str, d_model: int, speeds: dict[int, float], side_by_side: float | None
) -> dict[str, Any]:
    """Runs per hour from runs x steps per second.

    Args:
      speeds: runs in a pack -> speed; of the packs, the fastest counts.
      side_by_side: of one process per core, together; None on a GPU.
    """
    model, batch_size, _ = network(device, d_model)
    n_params = count_params(model).total
    n_steps = math.ceil(TOKENS_PER_PARAM * n_params / (batch_size * model.seq_len))
    packs = {size: speed for size, speed in speeds.items() if size > 1}
    best = max(packs, key=packs.__getitem__, default=None)

    def runs_per_hour(speed: float | None) -> float | None:
        return None if speed is None else float(f"{3600 * speed / n_steps:.4g}")

    return {
        "d_model": d_model,
        "n_params": n_params,
        "n_steps": n_steps,
        "run_steps_per_second": {str(size): round(speed, 3) for size, speed in speeds.items()},
        "one_at_a_time": runs_per_hour(speeds[1]),
        "pack": runs_per_hour(packs[best]) if best else None,
        "pack_runs": best,
        "pack_gain": round(packs[best] / speeds[1], 2) if best else None,
        "one_process_per_core": runs_per_hour(side_by_side),
        "per_core_gain": round(side_by_side / speeds[1], 2) if side_by_side else None,
    }


if __name__ == "__main__":
    main()
