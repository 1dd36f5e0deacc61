# SPDX-License-Identifier: Apache-2.0
"""How many worker processes this machine is good for, and the cores or accelerators of each."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.executors.local_idle import IdleWorkers

# JAX takes three quarters of a GPU by default; workers that share one share this much.
GPU_MEMORY_SHARE = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class Workers:
    """How many processes, and what each may use.

    Attributes:
      cores: per worker, the cores it is pinned to; empty tuples leave it free (accelerators).
      environments: per worker, variables that show it its accelerators; empty for none.
      checkpoint_seconds: least time between two checkpoints of a run.
      grace_seconds: from asking a worker to stop to killing it.
      lease_seconds, max_attempts: see experiments/worker.py.
      cache: folder of compiled programs, or None.
      execution: how networks are computed, in text (model/network/execution.py); empty: chosen.
      command: what starts a worker; tests put a stand-in here.
      idle: where workers wait for the next stage, and come from; None: they end with this one.
    """

    cores: tuple[tuple[int, ...], ...]
    environments: tuple[dict[str, str], ...] = ()
    checkpoint_seconds: float = 60.0
    grace_seconds: float = 30.0
    lease_seconds: float = 120.0
    max_attempts: int = 3
    cache: Path | None = None
    execution: str = ""
    command: tuple[str, ...] = (sys.executable, "-m", "experiments.worker")
    idle: IdleWorkers | None = None


def local_workers(
    n_workers: int | None, n_jobs: int, n_devices: int, *, per_device: int = 1, **options: Any
) -> Workers:
    """One worker per core (fewer if there are fewer jobs), or so many per accelerator.

    Depends on the jobs of the stage and not on how many are left, so that a resumed job runs on
    as many cores as it would have, and gives the same bits.

    Args:
      n_workers: asked for, or None for the rule.
      n_jobs: of the stage, finished ones included.
      n_devices: of the mesh; a mesh of several gets one worker with all of them.
      per_device: workers that share an accelerator best, see experiments/speed/shared_gpu.py.
      options: further fields of Workers.
    """
    if n_workers is not None and n_workers < 1:
        raise ValueError(f"--workers {n_workers}: must be at least 1.")
    if has_accelerator():
        environments = _accelerators(n_workers, n_jobs, n_devices, per_device)
        cores: tuple[tuple[int, ...], ...] = ((),) * len(environments)
        return Workers(cores=cores, environments=environments, cache=cache_folder(), **options)
    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    n_cores = len(mine) or os.cpu_count() or 1
    n = n_workers or (1 if n_devices > 1 else min(n_cores, n_jobs))
    each = max(1, n_cores // n)
    split = tuple(tuple(mine[(i * each) % n_cores :][:each]) for i in range(n))
    return Workers(cores=split, cache=cache_folder(), **options)


def has_accelerator() -> bool:
    """Whether this machine shows a GPU or TPU that JAX is not told to leave alone."""
    if os.environ.get("JAX_PLATFORMS", "") == "cpu":
        return False
    return any(
        next(Path("/dev").glob(pattern), None) for pattern in ("nvidia[0-9]*", "accel[0-9]*")
    )


def _accelerators(
    n_workers: int | None, n_jobs: int, n_devices: int, per_device: int
) -> tuple[dict[str, str], ...]:
    """Variables per worker: a GPU for each, or a share of one; a TPU's chips stay together."""
    gpus = visible_gpus()
    if not gpus or n_devices > 1:
        return ({},) * (n_workers or 1)
    n = n_workers or min(per_device * len(gpus), n_jobs)
    per_gpu = -(-n // len(gpus))
    return tuple(share_of(gpus[i % len(gpus)], per_gpu) for i in range(n))


def share_of(gpu: str, n_workers: int) -> dict[str, str]:
    """Variables of one of so many processes on a GPU."""
    fraction = f"{GPU_MEMORY_SHARE / n_workers:.3f}"
    return {"CUDA_VISIBLE_DEVICES": gpu, "XLA_PYTHON_CLIENT_MEM_FRACTION": fraction}


def visible_gpus() -> list[str]:
    """Names of the GPUs that we may use, as CUDA_VISIBLE_DEVICES takes them."""
    if (shown := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in shown.split(",") if name.strip()]
    return [str(i) for i, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


def cache_folder() -> Path:
    """Where compiled programs are kept between runs."""
    if chosen := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "isoflop" / "jax"
