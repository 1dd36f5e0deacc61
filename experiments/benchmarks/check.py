# SPDX-License-Identifier: Apache-2.0
"""Do 1B, 7B and 70B fit on TPUs that are not here? `isoflop check` of the large studies.

``python -m experiments.benchmarks.check`` (make bench-check) compiles each training step for its
slice and writes results/benchmarks/check.json and check.md. No TPU is needed.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from experiments.provenance import cpu_model
from model.execution import Execution

RESULTS = Path("results/benchmarks")
GIB = 2**30
RUNS = (
    ("large_1b", "v5e:4x4", ()),
    ("large_1b", "v5e:4x4", ("mesh=1,2,4,2",)),
    ("large_7b", "v5e:16x16", ()),
    ("large_70b", "v5p:8x8x8", ()),
)


def main() -> None:
    records = [_check(*run) for run in RUNS]
    host = {"cpu": cpu_model(), "n_cores": os.cpu_count(), "python": platform.python_version()}
    record = {"command": "python -m experiments.benchmarks.check", "host": host, "checks": records}
    (RESULTS / "check.json").write_text(json.dumps(record, indent=1) + "\n")
    (RESULTS / "check.md").write_text(_page(record))


def _check(study: str, topology: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    """The record of one check, whether or not everything fits."""
    arguments = ["check", study, "--topology", topology, *overrides]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "experiments.cli", *arguments, "--results", folder]
        subprocess.run(command)
        record = json.loads((Path(folder) / study / "check.json").read_text())
    return {"command": " ".join(["isoflop", *arguments])} | record


def _page(record: dict[str, Any]) -> str:
    checks = record["checks"]
    versions = checks[0]["device"]["versions"]
    lines = [
        "# Large models on TPUs that were not there",
        "",
        f"`{record['command']}`: every training step compiled ahead of time on "
        f"{record['host']['cpu']}, {record['host']['n_cores']} cores, for a described topology ("
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + "). Nothing was run on a TPU: memory is the compiler's own account, times are a "
        "roofline. Usable is 90 % of a chip's memory.",
        "",
        "| command | parameters | tokens per step | settings | GiB per chip, of usable | least "
        "step, s | hours | warnings | compiled in | host memory |",
        f"|{'---|' * 10}",
        *(_program(check) for check in checks),
        "",
        'Warnings: "involuntary full rematerialization" of the partitioner.',
        "",
        "Bytes that one chip moves per step, in GB, by the formulas of "
        "`experiments/check/collectives.py`, and as the compiled program's text has them "
        "(indicative: the TPU's compiler writes a reduce-scatter, and on v5p also an all-gather, "
        "as an all-reduce, which counts twice, or as a ring of permutes inside a product):",
        "",
        "| command | what | collective | over | GB |",
        "|---|---|---|---|---|",
        *(line for check in checks for line in _traffic(check)),
        "",
        "Assumptions of the times:",
        "",
        *(f"- {text}" for text in checks[0]["assumptions"]),
    ]
    return "\n".join([*lines, ""])


def _program(check: dict[str, Any]) -> str:
    (row,) = check["programs"]
    last, seconds = row["tried"][-1], row["step_seconds"]
    execution = Execution.from_text(row["execution"])
    cells = (
        f"`{check['command']}`",
        f"{row['n_params']:,}",
        f"{row['batch_size'] * row['seq_len']:,}",
        f"{execution.attention}, remat {execution.remat}, {execution.n_microbatches} microbatches, "
        f"{execution.n_loss_chunks} loss chunks",
        f"{row['needed_bytes'] / GIB:.1f} of {check['usable_bytes'] / GIB:.1f}",
        f"{seconds['overlapped']:.3g} to {seconds['serial']:.3g}",
        f"{row['hours'][0]:.3g} to {row['hours'][1]:.3g}",
        str(last["n_rematerializations"]),
        f"{last['seconds']:.0f} s",
        f"{last['host_memory_bytes'] / GIB:.1f} GiB",
    )
    return f"| {' | '.join(cells)} |"


def _traffic(check: dict[str, Any]) -> list[str]:
    (row,) = check["programs"]
    command, found = f"`{check['command']}`", row["collectives"]
    lines = [
        f"| {command} | {part['what']} | {part['kind']} | {', '.join(part['axes'])} | "
        f"{part['bytes'] / 1e9:.3f} |"
        for part in found["parts"]
    ]
    lines += [
        f"| {command} | compiled, all | {kind} | | {moved / 1e9:.3f} |"
        for kind, moved in found["compiled_indicative"].items()
    ]
    return lines


if __name__ == "__main__":
    main()
