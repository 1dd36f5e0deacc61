# SPDX-License-Identifier: Apache-2.0
"""How many worker processes this machine is good for, and the cores or accelerators of each."""

import os
from dataclasses import dataclass, field
from pathlib import Path

# JAX takes three quarters of a GPU by default; workers that share one share this much.
GPU_MEMORY_SHARE = 0.9
DEV, PCI = Path("/dev"), Path("/sys/bus/pci/devices")
# Files of NVIDIA's GPUs, of the one GPU of Windows (WSL), and of TPUs up to v4.
_ACCELERATORS = ("nvidia[0-9]*", "dxg", "accel[0-9]*")
# Of later TPUs, as of any PCI device that is handed on to a virtual machine.
_HANDED_ON, _GOOGLE = "vfio/[0-9]*", "0x1ae0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What one worker may use.

    Attributes:
      cores: that it is pinned to; empty leaves it free (accelerators).
      environment: variables that show it its accelerators.
      per_device: workers that share them, this one included.
    """

    cores: tuple[int, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    per_device: int = 1


def worker_places(
    n_workers: int | None, n_jobs: int, n_devices: int, *, per_device: int = 1
) -> tuple[Place, ...]:
    """One worker per core (fewer if there are fewer jobs), or so many per accelerator.

    Depends on the jobs that are asked for and not on how many are left, so that a resumed job runs
    on as many cores as it would have, and gives the same bits.

    Args:
      n_workers: asked for, or None for the rule.
      n_jobs: that are asked for, finished ones included.
      n_devices: of the mesh; a mesh of several gets one worker with all of them.
      per_device: workers that share an accelerator best, see experiments/speed/shared_gpu.py.

    Raises:
      ValueError: if ``n_workers`` is below 1.
    """
    if n_workers is not None and n_workers < 1:
        raise ValueError(f"--workers {n_workers}: must be at least 1.")
    if has_accelerator():
        return _accelerators(n_workers, n_jobs, n_devices, per_device)
    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    n_cores = len(mine) or os.cpu_count() or 1
    n = n_workers or (1 if n_devices > 1 else min(n_cores, n_jobs))
    each = max(1, n_cores // n)
    return tuple(Place(cores=tuple(mine[(i * each) % n_cores :][:each])) for i in range(n))


def has_accelerator(dev: Path = DEV, pci: Path = PCI) -> bool:
    """Whether this machine shows a GPU or TPU that JAX is not told to leave alone.

    Looked up without JAX, which would take the device: its own look-up is private, and lists the
    PCI numbers of the TPUs of its time (jax/_src/hardware_utils.py).
    """
    if os.environ.get("JAX_PLATFORMS", "") == "cpu":
        return False
    if any(next(dev.glob(pattern), None) for pattern in _ACCELERATORS):
        return True
    vendors = (path.read_text().strip() for path in pci.glob("*/vendor"))
    return next(dev.glob(_HANDED_ON), None) is not None and _GOOGLE in vendors


def _accelerators(
    n_workers: int | None, n_jobs: int, n_devices: int, per_device: int
) -> tuple[Place, ...]:
    """A GPU for each worker, or a share of one; a TPU's chips stay together."""
    gpus = visible_gpus()
    if not gpus or n_devices > 1:
        n = n_workers or 1
        return (Place(per_device=n),) * n
    n = n_workers or min(per_device * len(gpus), n_jobs)
    together = [len(range(i, n, len(gpus))) for i in range(len(gpus))]
    places = [(gpus[i % len(gpus)], together[i % len(gpus)]) for i in range(n)]
    return tuple(Place(environment=share_of(*place), per_device=place[1]) for place in places)


def share_of(gpu: str, n_workers: int) -> dict[str, str]:
    """Variables of one of so many processes on a GPU."""
    fraction = f"{GPU_MEMORY_SHARE / n_workers:.3f}"
    return {"CUDA_VISIBLE_DEVICES": gpu, "XLA_PYTHON_CLIENT_MEM_FRACTION": fraction}


def visible_gpus() -> list[str]:
    """Names of the GPUs that we may use, as CUDA_VISIBLE_DEVICES takes them."""
    if (shown := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in shown.split(",") if name.strip()]
    return [str(i) for i, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]
