# SPDX-License-Identifier: Apache-2.0
"""What a benchmark writes below results/benchmarks/, and the line that says where it was made."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments.files.storage import replace_text
from experiments.machine.provenance import cpu_model, n_cores, software_facts

FOLDER = Path("results") / "benchmarks"


def facts(command: str, cores: int | None = None) -> dict[str, Any]:
    """Command, machine and versions; `cores` where not all of the machine's were used."""
    machine = {"device": cpu_model(), "cores": n_cores() if cores is None else cores}
    return {"command": command, **machine, **software_facts()}


def made_by(record: dict[str, Any]) -> str:
    """The first line of a page."""
    return (
        f"`{record['command']}` on {record['device']}, cores: {record['cores']}; Python "
        f"{record['python']}, jax {record['version_jax']}, commit {record['git_commit'][:7]}."
    )


def run_study(study: str, *words: str, results: Path, is_told: bool = False) -> None:
    """As a user runs it; ``words``: overrides and options. ``is_told``: with what it prints."""
    command = [sys.executable, "-m", "experiments.cli.main", "run", study, *words]
    out = None if is_told else subprocess.DEVNULL
    subprocess.run([*command, "--results", str(results)], check=True, stdout=out)


def write(name: str, record: dict[str, Any], page: str, folder: Path = FOLDER) -> None:
    """NAME.json and NAME.md."""
    replace_text(folder / f"{name}.json", json.dumps(record, indent=1) + "\n")
    replace_text(folder / f"{name}.md", page)
