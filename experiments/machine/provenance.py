# SPDX-License-Identifier: Apache-2.0
"""What a result says about where it came from: code, versions, flags and machine."""

import functools
import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Where the code is that can move a number; notes and results may change beside it.
CODE = ("model", "experiments", "scaling", "pyproject.toml", "constraints.txt")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
# By name, so that no path, address or secret of an environment reaches a result.
FLAGS = (
    *("JAX_PLATFORMS", "JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_DISABLE_JIT"),
    *("JAX_DEFAULT_PRNG_IMPL", "JAX_THREEFRY_PARTITIONABLE", "JAX_NUMPY_DTYPE_PROMOTION"),
    *("JAX_DEFAULT_DTYPE_BITS", "JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_NUM_CPU_DEVICES"),
    *("JAX_CPU_COLLECTIVES_IMPLEMENTATION", "JAX_EXEC_TIME_OPTIMIZATION_EFFORT"),
    *("LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"),
)


def software_facts(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Code version, package versions and the flags that can change arithmetic."""
    return {
        **code_facts(),
        **package_facts(),
        "xla_flags": environ.get("XLA_FLAGS", ""),
        "environment": " ".join(f"{name}={environ[name]}" for name in FLAGS if name in environ),
    }


@functools.cache
def code_facts(root: Path = ROOT) -> dict[str, str]:
    """Commit, digest of what differs from it ("" when nothing does), version of the distribution.

    Asked once per process: git takes some milliseconds. Commit and digest are "" where the code
    lies in no repository of its own: the version is then what there is.

    Args:
      root: folder that holds the packages.
    """
    is_tracked = _git(root, "ls-files", "--error-unmatch", "experiments/machine/provenance.py")
    commit = _git(root, "rev-parse", "HEAD") if is_tracked else None
    return {
        "git_commit": commit.decode().strip() if commit else "",
        "git_dirty_sha256": _dirty_sha256(root) if commit else "",
        "version_isoflop": _version("isoflop"),
    }


def _dirty_sha256(root: Path) -> str:
    """Digest over path and content of every changed file and every new .py file; "" without any.

    Contents rather than git's own text of the difference, which its version and settings move.
    """
    changed = _names(root, "diff", "--name-only", "--no-renames", "--relative", "HEAD")
    new = _names(root, "ls-files", "--others", "--exclude-standard")
    paths = sorted({*changed, *(path for path in new if path.endswith(".py"))})
    digest = hashlib.sha256()
    for path in paths:
        file = root / path
        content = file.read_bytes() if file.is_file() else b"deleted"
        digest.update(f"{path}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest() if paths else ""


def _names(root: Path, *arguments: str) -> list[str]:
    answer = _git(root, *arguments, "-z", "--", *CODE) or b""
    return [os.fsdecode(name) for name in answer.split(b"\0") if name]


def _git(root: Path, *arguments: str) -> bytes | None:
    """What git answers; None where there is no git, no repository or no answer."""
    # Without optional locks: many workers ask at once, and none of them writes an index.
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


@functools.cache
def package_facts() -> dict[str, str]:
    """Versions of Python and of what computes; "" for what is not installed."""
    versions = {f"version_{name}": _version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **versions}


def device_facts() -> dict[str, Any]:
    """Kind and count of the devices of the run, its processes, and this process's host."""
    import jax

    devices = jax.devices()
    is_cpu = devices[0].platform == "cpu"
    return {
        "platform": devices[0].platform,
        "device": cpu_model() if is_cpu else devices[0].device_kind,
        "n_devices": len(devices),
        "n_processes": jax.process_count(),
        "n_cores": n_cores(),
        "host": platform.node(),
    }


@functools.cache
def cpu_model() -> str:
    """The processor's name as the system gives it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def n_cores() -> int:
    """Cores that this process may run on."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
