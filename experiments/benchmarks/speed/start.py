# SPDX-License-Identifier: Apache-2.0
"""Seconds from `isoflop run` to the first training steps, with an empty and a filled cache.

The cache of compiled programs is a folder of its own, so that both are what they are called.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from experiments.files import strict_json

STUDY = """
from dataclasses import replace
from experiments.studies.quickstart import STUDY
from experiments.study.study import Ladder
STUDY = replace(
    STUDY, name="start", budgets=(2.5e11,), seeds=(0,), forecast_budgets=(),
    sizes=Ladder(d_models=(32,), tokens_per_param=(1.0, 1e4)),
)
"""
IMPORTS = "import jax, flax.nnx, optax, orbax.checkpoint, grain, model.training.loop"
PATIENCE_SECONDS = 120.0


def measure() -> dict[str, Any]:
    """Of a cold start, a warm one, and the parts of each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = folder / "start.py"
        study.write_text(STUDY)
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", IMPORTS], check=True)
        imports = time.perf_counter() - began
        starts = {
            kind: _first_steps(study, folder / kind, environment) for kind in ("cold", "warm")
        }
    return {"import_seconds": round(imports, 2), **starts}


def _first_steps(study: Path, results: Path, environment: dict[str, str]) -> dict[str, float]:
    """Seconds to the data, to the worker's claim of the run, and to its first trained steps."""
    command = [sys.executable, "-m", "experiments.cli.main", "run", str(study)]
    command += ["--results", str(results)]
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        marks = {
            "data": _seconds_until(results, "start/manifest.json", began, process),
            "claim": _seconds_until(results, "start/jobs/*/claims/*", began, process),
            "first_steps": _seconds_until(results, "start/runs/*/metrics/*.jsonl", began, process),
        }
        [metrics] = results.glob("start/runs/*/metrics/*.jsonl")
        row = strict_json.loads(metrics.read_text().splitlines()[0])
        return {
            **{name: round(seconds, 2) for name, seconds in marks.items()},
            "training": round(row["train_seconds"], 2),
            "steps": row["step"],
        }
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


def _seconds_until(
    results: Path, pattern: str, began: float, process: subprocess.Popen[bytes]
) -> float:
    while not any(path.stat().st_size for path in results.glob(pattern)):
        seconds = time.perf_counter() - began
        if seconds > PATIENCE_SECONDS or process.poll() not in (None, 0):
            raise RuntimeError(f"`isoflop run` made no {pattern} in {seconds:.0f} s.")
        time.sleep(0.005)
    return time.perf_counter() - began
