# SPDX-License-Identifier: Apache-2.0
"""make bench-pack: runs per hour that train together against one at a time, d 32 to 512.

  python -m experiments.benchmarks.speed.packs [--device cpu|gpu]

Every width trains packs of 1, 2, 4, ... runs in one process, on a CPU with all of its cores, and
there once more one run after another in one process per core, all at once. A run is 20 tokens per
parameter; its hours are those of its steps at the measured speed, without compilation, evaluation
and checkpoints, which is the same for both but for the compilation. Writes
results/benchmarks/packs.json and .md; the other kind of device keeps what was measured there.
"""

import argparse
import json
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from experiments.benchmarks.speed import networks, processes
from experiments.benchmarks.speed.networks import llama
from experiments.benchmarks.speed.page import table
from experiments.files.storage import replace_text
from experiments.machine.provenance import cpu_model, software_facts
from model.network.config import ModelConfig
from model.network.counts.total import count_params

FOLDER = Path("results") / "benchmarks"
WIDTHS = (32, 64, 128, 256, 512)
TOKENS_PER_PARAM = 20
# Of a CPU; a GPU goes on until its memory or its time ends.
CPU_PACKS = (1, 2, 4)
GPU_PACKS = tuple(2**i for i in range(9))
# For one width: what was printed until then counts.
PROCESS_SECONDS = 110.0
GOAL = 5.0
Dtype = Literal["float32", "bfloat16"]
NOT_MEASURED = "not measured on a {}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS))
    parser.add_argument("--seconds", type=float, default=1.0, help="for each pack, to measure")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--packs", type=int, nargs="+", help="one process: these sizes alone")
    parser.add_argument("--core", type=int, help="of that process; none is all of them")
    options = parser.parse_args()
    if options.packs:
        lines = _measured(
            options.device, options.widths[0], options.packs, options.core, options.seconds
        )
        for line in lines:
            print(json.dumps(line), flush=True)
        return
    path = options.out / "packs.json"
    record = json.loads(path.read_text()) if path.exists() else {"command": "make bench-pack"}
    part: dict[str, Any] = {"load_before": round(os.getloadavg()[0], 2), "rows": []}
    record[options.device] = part
    for d_model in options.widths:
        part["rows"].append(_row(options.device, d_model, options.seconds, part))
        replace_text(path, json.dumps(record, indent=1) + "\n")
        replace_text(options.out / "packs.md", page(record))


def network(device: str, d_model: int) -> tuple[ModelConfig, int, Dtype]:
    """Network, batch in sequences, dtype."""
    if device == "cpu":
        return llama(d_model, 4, max(d_model // 32, 1), 3 * d_model, 128, 512), 8, "float32"
    return llama(d_model, 6, max(d_model // 64, 1), 3 * d_model, 512, 8192), 16, "bfloat16"


def _measured(
    device: str, d_model: int, sizes: list[int], core: int | None, seconds: float
) -> Iterator[dict[str, Any]]:
    """In this process: a line for each size of pack that fits."""
    if device == "cpu":
        from experiments.machine.jax_setup import start_jax

        start_jax(sorted(os.sched_getaffinity(0)) if core is None else [core], None)
    import jax

    from experiments.speed.packs_measured import measure

    if jax.default_backend() != device:
        raise SystemExit(f"JAX sees no {device} here but {jax.devices()}.")
    model, batch_size, dtype = network(device, d_model)
    for n_runs in sizes:
        train = networks.train_config(batch_size, dtype)
        speed = measure(model, train, n_runs, seconds=seconds)
        if speed is None:
            return
        yield {
            "n_runs": n_runs,
            "run_steps_per_second": speed,
            "device": cpu_model() if device == "cpu" else jax.devices()[0].device_kind,
            "jax": jax.__version__,
        }


def _row(device: str, d_model: int, seconds: float, part: dict[str, Any]) -> dict[str, Any]:
    """One width; hardware and versions go into ``part``."""
    common = ("--device", device, "--widths", str(d_model), "--seconds", str(seconds), "--packs")
    sizes = CPU_PACKS if device == "cpu" else GPU_PACKS
    found, reason = processes.lines("packs", *common, *map(str, sizes), seconds=PROCESS_SECONDS)
    if not found:
        return {"d_model": d_model, "not_measured": reason}
    part |= {"device": found[0]["device"], "jax": found[0]["jax"], **software_facts()}
    speeds = {line["n_runs"]: line["run_steps_per_second"] for line in found}
    if device == "cpu":
        cores = sorted(os.sched_getaffinity(0))
        part["cores"] = len(cores)
        return row(device, d_model, speeds, sum(_per_core(common, cores)))
    return row(device, d_model, speeds, None)


def _per_core(common: tuple[str, ...], cores: list[int]) -> list[float]:
    """Steps per second of one process per core, all at once."""

    def one(core: int) -> float:
        found, reason = processes.lines("packs", *common, "1", "--core", str(core))
        if not found:
            raise SystemExit(f"no speed of core {core}: {reason}")
        return found[0]["run_steps_per_second"]

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
        "pack": runs_per_hour(packs.get(best) if best else None),
        "pack_runs": best,
        "pack_gain": round(packs[best] / speeds[1], 2) if best else None,
        "one_process_per_core": runs_per_hour(side_by_side),
        "per_core_gain": round(side_by_side / speeds[1], 2) if side_by_side else None,
    }


def page(record: dict[str, Any]) -> str:
    lines = ["# Runs that train together", ""]
    for device, name in (("cpu", "CPU"), ("gpu", "GPU")):
        part = record.get(device)
        lines += [f"## On a {name}", "", *_part(record["command"], name, part), ""]
    return "\n".join(lines)


def _part(command: str, name: str, part: dict[str, Any] | None) -> list[str]:
    names = {
        "d_model": "d",
        "n_params": "parameters",
        "n_steps": "steps of a run",
        "one_at_a_time": "runs / h, one at a time",
        "pack": "runs / h, packed",
        "pack_runs": "runs in the pack",
        "pack_gain": "gain of packing",
    }
    columns = ("one_at_a_time", "pack", "pack_runs", "pack_gain")
    rows = [row for row in (part or {}).get("rows", []) if "n_params" in row]
    if part is None or not rows:
        words = NOT_MEASURED.format(name)
        empty = [{"d_model": d, **dict.fromkeys(columns, words)} for d in WIDTHS]
        shown = {key: names[key] for key in ("d_model", *columns)}
        goal = f"Goal on an H200: {GOAL:g} times the runs per hour at d <= 256." * (name == "GPU")
        return [f"`{command}`: {words}. {goal}", "", *table(empty, shown)]
    if name == "CPU":
        names |= {
            "one_process_per_core": "runs / h, one process per core",
            "per_core_gain": "gain of one process per core",
        }
    cores = f", {part['cores']} cores" if "cores" in part else ""
    said = (
        "One at a time and packed: one process with all cores. One process per core is the pack of "
        "a CPU: mapping runs over a leading axis gives its cores nothing more to do."
        if name == "CPU"
        else f"Goal on an H200: {GOAL:g} times at d <= 256."
    )
    missing = [row for row in part["rows"] if "n_params" not in row]
    return [
        f"`{command}` on {part['device']}{cores}; Python {part['python']}, jax {part['jax']}; load "
        f"before: {part['load_before']}. A run is {TOKENS_PER_PARAM} tokens per parameter; steps "
        f"alone are counted. {said}",
        "",
        *table(rows, names),
        *(f"- d {row['d_model']}: not measured, {row['not_measured']}" for row in missing),
    ]


if __name__ == "__main__":
    main()
