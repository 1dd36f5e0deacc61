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
        monkeypatch.setattr(jax, "local_device_count", lambda: 2)
        peak.device_peak.cache_clear()

    yield report
    peak.device_peak.cache_clear()


@pytest.fixture
def measured(monkeypatch):
    asked = []

    def measure(dtype: str, size: int, n_devices: int) -> float:
        asked.append((dtype, size, n_devices))
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
    assert found.flops_per_second == 7e9 * 4 / 2
    assert found.source == "measured: bfloat16 8192^3 matmul"
    assert measured == [("bfloat16", 8192, 2)]


def test_devices_of_a_cpu_are_measured_at_once(devices, measured):
    """They share its cores."""
    devices("cpu", "cpu")
    assert peak.device_peak("float32", 2).flops_per_second == 7e9
    assert peak.device_peak("float32", 2).source == "measured: float32 1024^3 matmul"
    assert measured == [("float32", 1024, 2)]


@pytest.mark.parametrize("n_devices", [1, 4])
def test_a_measurement_finds_a_rate_that_a_processor_can_have(n_devices):
    assert 1e8 < peak.measure("float32", 256, n_devices, seconds=0.01) < 1e14
