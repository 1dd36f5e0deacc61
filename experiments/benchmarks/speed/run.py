# SPDX-License-Identifier: Apache-2.0
"""make bench: training speed against PyTorch, and runs that train together against one at a time;
make bench-mixers: each sequence mixer alone, at several lengths.

  python -m experiments.benchmarks.speed.run [--gpu] [--only peers mixers packs layers]

On two CPU cores, or with --gpu on one GPU. Every measurement is a process of its own; systems train
the same networks on the same tokens in turn, so that a change of the machine's speed meets all of
them. Writes results/benchmarks/speed.json and .md after each process; what is not asked for keeps
what was measured before. --gpu needs an environment with JAX for the GPU, Flax, Optax,
msgspec, jaxtyping and, for the peers, torch; where time is short: --rounds 1 --seconds 540.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments.benchmarks.record import FOLDER, write
from experiments.benchmarks.speed import layers, networks, packs, processes
from experiments.benchmarks.speed.page import page
from experiments.machine.provenance import cpu_model, software_facts
from model.hardware import lookup
from model.network.counts.total import flops_per_token

OURS = "isoflop"
PEERS = {
    "PyTorch": ("plain", "eager"),
    "PyTorch, compiled": ("plain", "compiled"),
    "Hugging Face": ("hugging-face", "eager"),
    "Hugging Face, compiled": ("hugging-face", "compiled"),
}
# What is left out first when time runs short comes last.
GPU_NETWORKS = (networks.LARGE[:1], networks.LARGE[1:], networks.SMALL)
GPU_SYSTEMS = (OURS, "PyTorch, compiled")
LEAST_SECONDS = 20.0  # Less is not enough for a process.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu", action="store_true", help="on one GPU, not on two CPU cores")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--networks", nargs="+", choices=networks.SETTINGS, help="of the peers")
    parser.add_argument("--systems", nargs="+", choices=(OURS, *PEERS))
    parser.add_argument("--widths", nargs="+", type=int, default=packs.WIDTHS, help="of the packs")
    parser.add_argument("--mixers", nargs="+", choices=layers.MIXERS, default=[*layers.MIXERS])
    parser.add_argument("--lengths", nargs="+", type=int, default=layers.LENGTHS, help="of these")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1e6, help="no process works for longer")
    parser.add_argument("--torch-python", help="the interpreter that has torch")
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    device = "gpu" if options.gpu else "cpu"
    known: dict[str, Any] = {"load_before": round(os.getloadavg()[0], 1), **software_facts()}
    if device == "cpu":
        cores = sorted(os.sched_getaffinity(0))[:2]
        os.sched_setaffinity(0, cores)
        known |= {"device": cpu_model(), "cores": len(cores)}
    path = options.out / "speed.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    for case in options.only:
        for found in CASES[case](device, options):
            record.setdefault(device, {})[case] = found | known
            write("speed", record, page(record), options.out)


def peers(device: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every system in turn, over and over: what is known after each process."""
    ends = time.monotonic() + options.seconds
    found: dict[str, list[dict[str, Any]]] = {}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(options.rounds):
            for system, names in jobs(device, options.networks, options.systems):
                left = ends - time.monotonic()
                reason = _unfit(system, left)
                if not reason:
                    python = options.torch_python or processes.torch_python(device)
                    results, reason = _one(device, system, names, left, cache, python)
                    found.setdefault(system, []).extend(results)
                if reason:
                    missing[f"{system} ({', '.join(names)})"] = reason
                yield {"rounds": options.rounds, "not_measured": missing, **summary(found)}


def mixers(device: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Networks of LSTMs and of convolutions, as ``peers``."""
    names = [setting.name for setting in networks.MIXERS]
    return peers(device, argparse.Namespace(**vars(options) | {"networks": names}))


def jobs(
    device: str, names: list[str] | None, systems: list[str] | None
) -> list[tuple[str, list[str]]]:
    """(system, networks) of each process: on a GPU one per network, as time may run short."""
    groups = (networks.CPU,) if device == "cpu" else GPU_NETWORKS
    in_turn = systems or ((OURS, *PEERS) if device == "cpu" else GPU_SYSTEMS)
    batches = [names] if names else [[setting.name for setting in group] for group in groups]
    found = [(system, _known_to(system, batch)) for batch in batches for system in in_turn]
    return [(system, batch) for system, batch in found if batch]


def _known_to(system: str, names: list[str]) -> list[str]:
    """Hugging Face has no causal language model of LSTMs or convolutions."""
    if PEERS.get(system, ("plain",))[0] == "plain":
        return names
    mixers = {name: networks.layers(networks.SETTINGS[name].model)[0] for name in names}
    return [name for name, mixer in mixers.items() if mixer.kind == "attention"]


def _unfit(system: str, seconds: float) -> str:
    if seconds < LEAST_SECONDS:
        return "no time was left"
    if system.endswith("compiled") and not (shutil.which("g++") or shutil.which("clang++")):
        return "torch.compile needs a C++ compiler, here is none"
    return ""


def _one(
    device: str, system: str, names: list[str], seconds: float, cache: str, python: str
) -> tuple[list[dict[str, Any]], str]:
    if system == OURS:
        return processes.lines("ours", device, *names, seconds=seconds)
    return processes.lines(
        "theirs",
        device,
        *PEERS[system],
        *names,
        python=python,
        seconds=seconds,
        TORCHINDUCTOR_CACHE_DIR=cache,
    )


def summary(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Device, versions, peaks, and a row for every network and system.

    Args:
      found: system -> what its processes printed, in the order of the rounds.
    """
    everything = [result for results in found.values() for result in results]
    rows = [
        _row(system, name, mine, _peak(mine[0], everything))
        for name in dict.fromkeys(result["setting"] for result in everything)
        for system, results in found.items()
        if (mine := [result for result in results if result["setting"] == name])
    ]
    ours = {row["network"]: row["tokens_per_second"] for row in rows if row["system"] == OURS}
    for row in rows:
        speed = ours.get(row["network"])
        row["speedup"] = round(speed / row["tokens_per_second"], 2) if speed else None
    return {
        "device": ", ".join(sorted({result["device_kind"] for result in everything})),
        "versions": {name: v for result in everything for name, v in result["versions"].items()},
        "rows": rows,
    }


def _peak(result: dict[str, Any], everything: list[dict[str, Any]]) -> tuple[float, str]:
    """FLOP/s that the device can reach, and who says so."""
    dtype = networks.SETTINGS[result["setting"]].dtype
    known = lookup(result["device_kind"])
    if known is not None:
        return known.peak(dtype), known.source
    alike = [r for r in everything if networks.SETTINGS[r["setting"]].dtype == dtype]
    largest = max(r["peak_flops_per_second"] for r in alike)
    return largest, "largest square product that any system reached"


def _row(
    system: str, name: str, results: list[dict[str, Any]], peak: tuple[float, str]
) -> dict[str, Any]:
    model = networks.SETTINGS[name].model
    seconds = [result["seconds"] for result in results]
    first = results[0]
    speed = first["batch_size"] * model.seq_len / statistics.median(seconds)
    full, causal = (
        speed * flops_per_token(model, convention) / peak[0]
        for convention in ("matmul_full", "matmul_causal")
    )
    return {
        "network": name,
        "system": system,
        "n_params": first["n_params"],
        "batch_size": first["batch_size"],
        "n_devices": first.get("n_devices", 1),
        "ms_per_step": round(1e3 * statistics.median(seconds), 2),
        "ms_lowest": round(1e3 * min(seconds), 2),
        "ms_highest": round(1e3 * max(seconds), 2),
        "tokens_per_second": round(speed),
        "mfu_full": float(f"{full:.3g}"),
        "mfu_causal": float(f"{causal:.3g}"),
        "peak_gflops": round(peak[0] / 1e9, 1),
        "peak_source": peak[1],
        # Of the first round: later ones find what it compiled.
        "first_step_seconds": round(first["first_step_seconds"], 1),
        "first_loss": round(first["first_loss"], 4),
        "execution": first.get("execution", ""),
    }


def together(device: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One width after another."""
    return packs.measured(device, options.widths, options.seconds)


def alone(device: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One mixer after another; on two CPU cores only."""
    return layers.measured(options) if device == "cpu" else iter(())


CASES: dict[str, Callable[[str, argparse.Namespace], Iterator[dict[str, Any]]]] = {
    "peers": peers,
    "mixers": mixers,
    "packs": together,
    "layers": alone,
}


if __name__ == "__main__":
    main()
