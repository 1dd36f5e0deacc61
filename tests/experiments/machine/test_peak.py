# SPDX-License-Identifier: Apache-2.0
"""Where the peak of a run comes from."""

import types

import jax
import pytest

from experiments.machine import peak
from model.hardware import lookup


@pytest.fixture
def devices(monkeypatch):
    """Makes JAX report devices of some kind."""

    def report(kind: str, platform: str) -> None:
        device = types.SimpleNamespace(device_kind=kind, platform=platform)
        monkeypatch.setattr(jax, "devices", lambda: [device] * 4)
        peak.device_peak.cache_clear()

    yield report
    peak.device_peak.cache_clear()


@pytest.fixture
def measured(monkeypatch):
    asked = []

    def measure(dtype: str, size: int) -> float:
        asked.append((dtype, size))
        return 7e9

    monkeypatch.setattr(peak, "measure", measure)
    return asked


def test_a_known_device_is_looked_up_and_never_measured(devices, measured):
    devices("NVIDIA H200", "gpu")
    found = peak.device_peak("bfloat16", 4)
    assert found.flops_per_second == 4 * lookup("NVIDIA H200").bfloat16
    assert found.source.startswith("table: NVIDIA H200 bfloat16, NVIDIA H200 ")
    assert not measured


def test_an_unknown_device_is_measured_in_the_dtype_of_the_run_and_says_so(devices, measured):
    devices("NVIDIA X999", "gpu")
    found = peak.device_peak("bfloat16", 4)
    assert found.flops_per_second == 4 * 7e9
    assert found.source == "measured: bfloat16 8192^3 matmul"
    assert measured == [("bfloat16", 8192)]


def test_simulated_cpu_devices_share_one_processor(devices, measured):
    devices("cpu", "cpu")
    assert peak.device_peak("float32", 4).flops_per_second == 7e9
    assert peak.device_peak("float32", 4).source == "measured: float32 1024^3 matmul"
    assert len(measured) == 1


def test_a_measurement_finds_a_rate_that_a_processor_can_have():
    assert 1e8 < peak.measure("float32", 256, seconds=0.01) < 1e14
