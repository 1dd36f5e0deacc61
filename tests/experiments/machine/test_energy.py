# SPDX-License-Identifier: Apache-2.0
"""Oracle: counters whose joules are known."""

import sys
import types

import pytest

from experiments.machine import energy
from experiments.machine.energy import EnergyMeter

ZONES = {  # Name, first reading, later reading, range; in microjoules.
    "intel-rapl:0": ("package-0", 5_000_000, 9_000_000, 10_000_000),
    "intel-rapl:1": ("package-1", 8_000_000, 1_000_000, 10_000_000),
    "intel-rapl:0:0": ("core", 0, 3_000_000, 10_000_000),
    "intel-rapl:0:1": ("dram", 1_000_000, 1_500_000, 10_000_000),
    "intel-rapl:2": ("psys", 0, 9_900_000, 10_000_000),
    "intel-rapl-mmio:0": ("package-0", 0, 4_000_000, 10_000_000),
}


@pytest.fixture
def powercap(tmp_path):
    folder = tmp_path / "powercap"
    for zone, (name, first, _, largest) in ZONES.items():
        (folder / zone).mkdir(parents=True)
        (folder / zone / "name").write_text(f"{name}\n")
        (folder / zone / "energy_uj").write_text(f"{first}\n")
        (folder / zone / "max_energy_range_uj").write_text(f"{largest}\n")
    return folder


def test_rapl_counts_each_package_once_and_follows_a_counter_that_starts_over(
    powercap, monkeypatch
):
    monkeypatch.setattr(energy.os, "cpu_count", energy.n_cores)
    meter = EnergyMeter("cpu", powercap=powercap)
    assert meter.joules() == 0
    for zone, (_, _, later, _) in ZONES.items():
        (powercap / zone / "energy_uj").write_text(f"{later}\n")
    # 4 J of the first package, 2 + 1 J of the second past its range, 0.5 J of memory.
    assert meter.joules() == pytest.approx(7.5)
    assert meter.joules() == pytest.approx(7.5)
    assert meter.source == "rapl"
    (powercap / "intel-rapl:0" / "energy_uj").write_text("1000000\n")
    assert meter.joules() == pytest.approx(9.5)
    meter.start()
    assert meter.joules() == 0


def test_a_worker_on_a_part_of_the_cores_answers_for_its_share(powercap, monkeypatch):
    monkeypatch.setattr(energy.os, "cpu_count", lambda: 4 * energy.n_cores())
    meter = EnergyMeter("cpu", powercap=powercap)
    (powercap / "intel-rapl:0" / "energy_uj").write_text("9000000\n")
    assert meter.joules() == pytest.approx(1.0)
    n = energy.n_cores()
    assert meter.source == f"rapl: share of {n} in {4 * n} cores"


def test_without_a_counter_there_is_an_estimate_that_says_so(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(energy.time, "monotonic", lambda: now[0])
    meter = EnergyMeter("cpu", powercap=tmp_path / "nothing")
    now[0] += 10.0
    expected = 10.0 * 8.0 * energy.n_cores()
    assert meter.facts() == {"joules": expected, "joules_source": "estimate: 8 W per core"}


def test_a_counter_that_may_not_be_read_is_not_used(powercap):
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    assert EnergyMeter("cpu", powercap=powercap).source == "estimate: 8 W per core"


def test_a_counter_that_goes_away_costs_no_run(powercap):
    meter = EnergyMeter("cpu", powercap=powercap)
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    assert meter.facts() == {"joules": None, "joules_source": ""}
    assert meter.facts() == {"joules": None, "joules_source": ""}


def test_a_device_without_any_counter_is_not_guessed():
    assert EnergyMeter("tpu").facts() == {"joules": None, "joules_source": ""}


class FakeError(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch):
    """A stand-in for pynvml with four GPUs, and JAX showing this process the first two of its."""
    millijoules = {"0": 1000, "1": 2000, "2": 3000, "GPU-3": 4000}

    def energy(handle: str) -> int:
        if handle not in millijoules:
            raise FakeError("not supported")
        return millijoules[handle]

    module = types.SimpleNamespace(
        NVMLError=FakeError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=str,
        nvmlDeviceGetHandleByUUID=str,
        nvmlDeviceGetTotalEnergyConsumption=energy,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    import jax

    devices = [types.SimpleNamespace(local_hardware_id=i) for i in (0, 1)]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    return millijoules


@pytest.mark.parametrize(
    ("visible", "used"), [("", ("0", "1")), ("2,GPU-3", ("2", "GPU-3")), ("1, 0,2", ("0", "1"))]
)
def test_nvml_reads_the_gpus_of_this_process(nvml, monkeypatch, visible, used):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    meter = EnergyMeter("gpu")
    assert meter.source == "nvml"
    for name in nvml:
        nvml[name] += 500 if name in used else 70_000
    assert meter.joules() == pytest.approx(1.0)


@pytest.mark.parametrize("visible", ["MIG-1,MIG-2", "0"])
def test_a_gpu_without_a_counter_of_its_own_is_not_guessed(nvml, monkeypatch, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert EnergyMeter("gpu").facts() == {"joules": None, "joules_source": ""}


def test_a_gpu_that_is_lost_costs_no_run(nvml, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    meter = EnergyMeter("gpu")
    nvml.clear()
    assert meter.joules() is None
