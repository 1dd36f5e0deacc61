# SPDX-License-Identifier: Apache-2.0
"""make bench-gpu: training speed and MFU on one GPU against torch.compile on the same one.

Networks of 124M (T 1024) and 1.3B parameters (T 2048) in bfloat16, ours and plain PyTorch with
torch.compile and its flash attention, one process per system; then small widths of ours, d 64 to
512. The batch is halved until it fits. The record is written after each process, so that one that
was stopped has what was done; --only picks parts. Nine minutes at most; needs JAX, Flax, Optax and,
for the peers, torch in the same environment; neither data loader nor checkpoints.
Writes results/benchmarks/gpu_speed.json and .md.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.speed import networks, processes
from experiments.benchmarks.speed.page import table
from experiments.files.storage import replace_text
from experiments.machine.provenance import software_facts
from model.network.counts.total import flops_per_token

FOLDER = Path("results") / "benchmarks"
OURS, PEER, PEER_EAGER = "isoflop", "PyTorch, compiled", "PyTorch"
SECONDS = 540.0
# What is left out first when time runs short comes last.
JOBS = (
    ("124M", OURS),
    ("124M", PEER),
    ("1.3B", OURS),
    ("1.3B", PEER),
    ("small", OURS),
    ("small", PEER),
)
TINY_JOBS = (("tiny-gpt2", OURS), ("tiny-llama", PEER_EAGER))
GOALS = {"124M": 0.45, "1.3B": 0.55}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--only", nargs="+", default=[], help="of 124M 1.3B small isoflop torch")
    parser.add_argument("--tiny", action="store_true", help="the same path in seconds, for tests")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter with torch")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for everything")
    options = parser.parse_args()
    jobs = TINY_JOBS if options.tiny else _chosen(options.only)
    record: dict[str, Any] = {"command": "make bench-gpu", **software_facts(), "rows": []}
    for job, results, reason in _measured(
        jobs, options.device, options.torch_python, options.seconds
    ):
        record["rows"] += [row(job[1], result) for result in results]
        if reason:
            record.setdefault("not_measured", {})[", ".join(job)] = reason
        with_ratios(record["rows"])
        replace_text(options.out / "gpu_speed.json", json.dumps(record, indent=1) + "\n")
        replace_text(options.out / "gpu_speed.md", page(record))
        for line in results:
            print(json.dumps(row(job[1], line)), flush=True)


def _chosen(names: list[str]) -> list[tuple[str, str]]:
    """The jobs whose network and system are asked for; naming none of a kind asks for all."""
    systems = {"isoflop": OURS, "torch": PEER}
    wanted = [systems[n] for n in names if n in systems] or list(systems.values())
    sizes = [n for n in names if n not in systems] or [job[0] for job in JOBS]
    return [job for job in JOBS if job[0] in sizes and job[1] in wanted]


def _measured(
    jobs: Sequence[tuple[str, str]], device: str, python: str, seconds: float
) -> Iterator[tuple[tuple[str, str], list[dict], str]]:
    ends = time.monotonic() + seconds
    for size, system in jobs:
        left = ends - time.monotonic()
        if left < 20:
            yield (size, system), [], f"no time was left of {seconds:.0f} s"
            continue
        names = [s.name for s in networks.SMALL] if size == "small" else [size]
        if system == OURS:
            found = processes.lines("ours", device, *names, seconds=left)
        else:
            mode = "compiled" if system == PEER else "eager"
            arguments = (device, "plain", mode, *names)
            found = processes.lines("torch_speed", *arguments, python=python, seconds=left)
        yield (size, system), *found


def row(system: str, result: dict[str, Any]) -> dict[str, Any]:
    """Tokens/s, FLOP/s and MFU, under both conventions, of what a process printed."""
    setting = networks.SETTINGS[result["setting"]]
    speed = result["batch_size"] * setting.model.seq_len / result["seconds"]
    full = speed * flops_per_token(setting.model, "matmul_full")
    causal = speed * flops_per_token(setting.model, "matmul_causal")
    known = _known(result["device_kind"])
    peak = known.peak(setting.dtype) if known else result["peak_flops_per_second"]
    return {
        "network": setting.name,
        "system": system,
        "n_params": result["n_params"],
        "batch_size": result["batch_size"],
        "ms_per_step": round(1e3 * result["seconds"], 3),
        "tokens_per_second": round(speed),
        "tflops_full": _digits(full / 1e12),
        "mfu_full": _digits(full / peak),
        "mfu_causal": _digits(causal / peak),
        "measured_peak_tflops": round(result["peak_flops_per_second"] / 1e12, 2),
        "peak_tflops": round(peak / 1e12, 2),
        "peak_source": known.source if known else "largest matrix product measured",
        "first_step_seconds": round(result["first_step_seconds"], 1),
        "first_loss": round(result["first_loss"], 4),
        "device": result["device_kind"],
        "versions": result["versions"],
        "execution": result.get("execution", ""),
    }


def _digits(number: float) -> float:
    return float(f"{number:.4g}")


def _known(device_kind: str) -> Any:
    """What the table knows of the device; None where it is not in it."""
    from model.hardware import lookup

    return lookup(device_kind)


def with_ratios(rows: list[dict[str, Any]]) -> None:
    """Adds how much faster ours is than each row of the same network, by tokens/s."""
    ours = {r["network"]: r["tokens_per_second"] for r in rows if r["system"] == OURS}
    for r in rows:
        if r["network"] in ours:
            r["speedup"] = round(ours[r["network"]] / r["tokens_per_second"], 3)


def page(record: dict[str, Any]) -> str:
    rows = record["rows"]
    versions = sorted({f"{k} {v}" for r in rows for k, v in r["versions"].items()})
    devices = sorted({f"{r['device']}, {r['peak_tflops']} TFLOP/s" for r in rows})
    sources = sorted({r["peak_source"] for r in rows})
    goals = ", ".join(f"{name} {share:.0%}" for name, share in GOALS.items())
    names = {
        "network": "network",
        "system": "system",
        "n_params": "parameters",
        "batch_size": "batch",
        "tokens_per_second": "tokens / s",
        "mfu_full": "MFU, matmul_full",
        "mfu_causal": "MFU, matmul_causal",
        "speedup": "isoflop is faster by",
        "measured_peak_tflops": "largest product, TFLOP/s",
        "first_step_seconds": "first step, s",
    }
    missing = record.get("not_measured", {})
    return "\n".join(
        [
            "# Training speed on a GPU",
            "",
            f"`{record['command']}`: {'; '.join(devices) or 'nothing was measured'} "
            f"({'; '.join(sources)}); Python {record['python']}, {', '.join(versions)}. Medians; "
            "first step: with its compilation. Goals: 1.1 times the tokens/s of torch.compile with "
            f"flash attention, MFU (matmul_full) {goals}.",
            "",
            *table(rows, names),
            "",
            *(f"- {job}: not measured, {reason}" for job, reason in missing.items()),
            "",
        ]
    )


if __name__ == "__main__":
    main()
