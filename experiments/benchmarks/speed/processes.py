# SPDX-License-Identifier: Apache-2.0
"""Runs one measurement in a process of its own, and reads its lines of JSON."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# Where torch and transformers are (make test-parity builds it).
TORCH_PYTHON = Path(".venv-parity/bin/python")


def torch_python(device: str) -> str:
    """The interpreter that has torch: an environment of its own for CPUs, or else this one."""
    is_there = device == "cpu" and TORCH_PYTHON.exists()
    return str(TORCH_PYTHON) if is_there else sys.executable


def lines(
    module: str, *arguments: str, python: str = sys.executable, seconds: float = 540.0, **env: str
) -> tuple[list[Any], str]:
    """What a module of this folder prints, parsed, and why it ended early ("" if it did not).

    Args:
      seconds: it is ended after this many.
      env: further variables of its environment.
    """
    name = f"experiments.benchmarks.speed.{module}"
    began, timed_out = time.perf_counter(), ""
    print(f"{name} {' '.join(arguments)} ...", end=" ", flush=True)
    command = [python, "-m", name, *arguments]
    with subprocess.Popen(
        command,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            timed_out = f"stopped after {seconds:.0f} s"
    reason = timed_out or _last_line(err) if process.returncode else ""
    print(f"{time.perf_counter() - began:.0f} s {reason}", flush=True)
    return [json.loads(line) for line in out.splitlines() if line.startswith(("{", "["))], reason


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no reason given")
