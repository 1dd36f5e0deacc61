# SPDX-License-Identifier: Apache-2.0
"""What a result says about where it came from: code, versions, flags, machine and energy."""

import functools
import hashlib
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

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
POWERCAP = Path("/sys/class/powercap")
# Where no counter can be read: an estimate, and labelled so.
WATTS_PER_CPU_CORE = 8.0


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


class Counter(Protocol):
    """Joules used since some moment of its own, starting over at ``wraps_at``."""

    wraps_at: float

    def read(self) -> float: ...


class EnergyMeter:
    """Joules used by the devices of this process since ``start``.

    A counter may start over once between two readings and is then followed; a processor's does so
    every 10 minutes at the earliest, so ``joules`` is to be asked more often than that.

    Attributes:
      source: "nvml" (the GPUs of this process, without their host), "rapl" (processor packages,
        by this process's share of the cores where it may not use all), "estimate: 8 W per core",
        or "" where nothing is known.
    """

    def __init__(self, platform_name: str, *, powercap: Path = POWERCAP):
        """Finds what can be read.

        Args:
          platform_name: of the devices, as JAX calls it: "cpu", "gpu" or "tpu".
          powercap: where Linux shows RAPL.
        """
        self._counters: Sequence[Counter] = ()
        self._share = 1.0
        self.source = ""
        if platform_name == "gpu":
            self._counters = _nvml_counters()
            self.source = "nvml" if self._counters else ""
        elif platform_name == "cpu":
            self._counters = _rapl_counters(powercap)
            n_mine, n_all = n_cores(), os.cpu_count() or 1
            self._share = n_mine / n_all if self._counters else float(n_mine)
            part = f": share of {n_mine} in {n_all} cores" if n_mine < n_all else ""
            estimate = f"estimate: {WATTS_PER_CPU_CORE:g} W per core"
            self.source = f"rapl{part}" if self._counters else estimate
            self._counters = self._counters or (_Estimate(),)
        self.start()

    def start(self) -> None:
        """Counts from now."""
        self._last = [counter.read() for counter in self._counters]
        self._sum = 0.0

    def joules(self) -> float | None:
        """Joules since ``start``; None where nothing is known, or a counter went away."""
        try:
            now = [counter.read() for counter in self._counters]
        except OSError:  # No run is lost because its energy is.
            self._counters, self.source = (), ""
        if not self._counters:
            return None
        for counter, new, old in zip(self._counters, now, self._last, strict=True):
            self._sum += new - old if new >= old else new - old + counter.wraps_at
        self._last = now
        return self._sum * self._share

    def facts(self) -> dict[str, Any]:
        """Joules so far and where they come from, as a result records them."""
        joules = self.joules()
        return {
            "joules": None if joules is None else round(joules, 1),
            "joules_source": self.source,
        }


class _Estimate:
    """One core at a constant power."""

    wraps_at = 0.0  # The clock is monotonic.

    def read(self) -> float:
        return time.monotonic() * WATTS_PER_CPU_CORE


class _Rapl:
    """One zone of Linux's powercap, in microjoules."""

    def __init__(self, zone: Path):
        self._energy = zone / "energy_uj"
        self.wraps_at = int((zone / "max_energy_range_uj").read_text()) / 1e6
        self.read()

    def read(self) -> float:
        return int(self._energy.read_text()) / 1e6


def _rapl_counters(powercap: Path) -> list[_Rapl]:
    """Packages, and memory where it is counted apart; empty when any of it cannot be read.

    Cores and uncore are parts of their package, "psys" contains it: none is counted twice.
    """
    try:
        zones = [(zone, (zone / "name").read_text()) for zone in powercap.glob("intel-rapl:*")]
        return [_Rapl(zone) for zone, name in sorted(zones) if name.startswith(("package", "dram"))]
    except (OSError, ValueError):
        return []


class _Nvml:
    """One GPU, in millijoules since its driver was loaded."""

    wraps_at = 0.0  # 64 bits: never.

    def __init__(self, nvml: Any, handle: Any):
        self._nvml, self._handle = nvml, handle
        self.read()

    def read(self) -> float:
        try:
            return self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3
        except self._nvml.NVMLError as error:
            raise OSError(str(error)) from None


def _nvml_counters(environ: Mapping[str, str] = os.environ) -> list[_Nvml]:
    """The GPUs that this process computes on; empty when any of them has no counter.

    A slice of a GPU (MIG) has none of its own.
    """
    try:
        import pynvml
    except ImportError:
        return []
    import jax

    # NVML numbers all GPUs; JAX those that CUDA_VISIBLE_DEVICES shows.
    shown = [name.strip() for name in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    indices = [device.local_hardware_id for device in jax.local_devices()]
    try:
        pynvml.nvmlInit()
        names = [shown[index] if shown else str(index) for index in indices]
        return [_Nvml(pynvml, _nvml_handle(pynvml, name)) for name in names]
    except (pynvml.NVMLError, OSError, IndexError):
        return []


def _nvml_handle(pynvml: Any, name: str) -> Any:
    is_index = name.isdecimal()
    by_index, by_uuid = pynvml.nvmlDeviceGetHandleByIndex, pynvml.nvmlDeviceGetHandleByUUID
    return by_index(int(name)) if is_index else by_uuid(name)
