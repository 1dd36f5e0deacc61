# SPDX-License-Identifier: Apache-2.0
"""Energy that the devices of a process use, as far as the machine tells."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from experiments.machine.provenance import n_cores

POWERCAP = Path("/sys/class/powercap")
# Where no counter can be read: an estimate, and labelled so.
WATTS_PER_CPU_CORE = 8.0


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


def _nvml_counters() -> list[_Nvml]:
    """The GPUs that this process computes on; empty when any of them has no counter.

    A slice of a GPU (MIG) has none of its own.
    """
    try:
        import pynvml
    except ImportError:
        return []
    import jax

    # NVML numbers all GPUs; JAX those that CUDA_VISIBLE_DEVICES shows.
    shown = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
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
