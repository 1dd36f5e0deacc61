# SPDX-License-Identifier: Apache-2.0
"""make bench: training speed on two CPU cores, against PyTorch, and what a run costs beside.

Every system trains the same networks on the same tokens, one process per system, in rounds, so that
a change of the machine's speed meets all of them. Writes results/benchmarks/speed.json and .md.

  python -m experiments.benchmarks.speed.run [--rounds 3] [--only PART ...]
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.benchmarks.speed import networks, page, processes, start
from experiments.files.storage import replace_text
from experiments.machine.provenance import cpu_model, software_facts
from model.network.counts.total import flops_per_token

FOLDER = Path("results") / "benchmarks"
OURS = "isoflop"
PEERS = {
    "PyTorch": ("plain", "eager"),
    "PyTorch, compiled": ("plain", "compiled"),
    "Hugging Face": ("hugging-face", "eager"),
    "Hugging Face, compiled": ("hugging-face", "compiled"),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    record: dict[str, Any] = {
        "command": "make bench",
        "device": cpu_model(),
        "cores": 2,
        **software_facts(),
    }
    for name in options.only:
        record[name] = PARTS[name](options.rounds)
        replace_text(FOLDER / "speed.json", json.dumps(record, indent=1) + "\n")
    replace_text(FOLDER / "speed.md", page.page(record))


def versus(n_rounds: int) -> dict[str, Any]:
    """Every system in turn, over and over; the medians of the rounds."""
    names = [setting.name for setting in networks.CPU]
    found: dict[str, list[dict]] = {}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(n_rounds):
            for system in (OURS, *PEERS):
                if reason := _unfit(system):
                    missing[system] = reason
                    continue
                results, reason = _one(system, names, cache)
                found.setdefault(system, []).extend(results)
                if reason:
                    missing[system] = reason
    return {"rounds": n_rounds, "not_measured": missing, **summary(found)}


def _unfit(system: str) -> str:
    if system.endswith("compiled") and not (shutil.which("g++") or shutil.which("clang++")):
        return "torch.compile needs a C++ compiler, here is none"
    return ""


def _one(system: str, names: list[str], cache: str) -> tuple[list[dict], str]:
    if system == OURS:
        return processes.lines("ours", "cpu", *names)
    return processes.lines(
        "torch_speed",
        "cpu",
        *PEERS[system],
        *names,
        python=processes.torch_python(),
        TORCHINDUCTOR_CACHE_DIR=cache,
    )


def summary(found: dict[str, list[dict]]) -> dict[str, Any]:
    """The machine's peak, versions, and a row for every system and setting.

    Args:
      found: system -> what its processes printed, in the order of the rounds.
    """
    everything = [result for results in found.values() for result in results]
    peak = max(result["peak_flops_per_second"] for result in everything)
    rows = [
        _row(system, setting, [r for r in results if r["setting"] == setting], peak)
        for setting in dict.fromkeys(result["setting"] for result in everything)
        for system, results in found.items()
        if any(r["setting"] == setting for r in results)
    ]
    ours = {row["setting"]: row["ms_per_step"] for row in rows if row["system"] == OURS}
    for row in rows:
        if row["setting"] in ours:
            row["speedup"] = round(row["ms_per_step"] / ours[row["setting"]], 2)
    versions = {name: v for result in everything for name, v in result["versions"].items()}
    peaks = {
        system: round(max(r["peak_flops_per_second"] for r in results) / 1e9, 1)
        for system, results in found.items()
        if results
    }
    return {"peak_gflops": round(peak / 1e9, 1), "peaks_gflops": peaks, **versions, "rows": rows}


def _row(system: str, name: str, results: list[dict], peak: float) -> dict[str, Any]:
    model = networks.SETTINGS[name].model
    seconds = [result["seconds"] for result in results]
    step, n_tokens = statistics.median(seconds), results[0]["batch_size"] * model.seq_len
    return {
        "setting": name,
        "system": system,
        "n_params": results[0]["n_params"],
        "batch_size": results[0]["batch_size"],
        "ms_per_step": round(1e3 * step, 2),
        "ms_lowest": round(1e3 * min(seconds), 2),
        "ms_highest": round(1e3 * max(seconds), 2),
        "tokens_per_second": round(n_tokens / step),
        "share_of_peak": round(flops_per_token(model, "matmul_full") * n_tokens / step / peak, 3),
        # Of the first round: later ones find what it compiled.
        "first_step_seconds": round(results[0]["first_step_seconds"], 1),
        "first_loss": round(results[0]["first_loss"], 4),
        "execution": results[0].get("execution", ""),
    }


def parts(_: int) -> list[dict[str, Any]]:
    """Profiles of one step of ours."""
    return [_only(processes.lines("parts", setting.name)) for setting in networks.CPU]


def _only(answer: tuple[list[Any], str]) -> Any:
    """The one object that a process printed."""
    found, reason = answer
    return found[0] if found else {"not_measured": reason}


def starts(_: int) -> dict[str, Any]:
    print("isoflop run, twice ...", flush=True)
    return start.measure()


PARTS: dict[str, Callable[[int], Any]] = {
    "versus": versus,
    "parts": parts,
    "widths": lambda _: _only(processes.lines("small", "widths")),
    "dispatch": lambda _: _only(processes.lines("small", "dispatch")),
    "head": lambda _: _only(processes.lines("compiled", "head")),
    "large": lambda _: _only(processes.lines("compiled", "large")),
    "starts": starts,
}


if __name__ == "__main__":
    main()
