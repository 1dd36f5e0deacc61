# SPDX-License-Identifier: Apache-2.0
"""Oracles: real git folders, and counters whose joules are known."""

import hashlib
import os
import shutil
import subprocess
import sys
import types

import pytest

from experiments.machine import provenance
from experiments.machine.provenance import EnergyMeter, code_facts, device_facts, software_facts


@pytest.fixture
def git(tmp_path):
    """A repository that holds the packages, and a function that runs git there."""

    def run(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    for folder in ("model", "scaling", "experiments", "notes"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").write_text("a = 1\n")
    (tmp_path / "experiments" / "provenance.py").write_text("")
    (tmp_path / ".gitignore").write_text("ignored.py\n")
    run("init", "-q")
    run("add", ".")
    run("commit", "-qm", "first")
    return run


def facts(root):
    code_facts.cache_clear()
    found = code_facts(root)
    code_facts.cache_clear()
    return found


def test_a_clean_checkout_is_its_commit(git, tmp_path):
    assert facts(tmp_path)["git_commit"] == git("rev-parse", "HEAD")
    assert facts(tmp_path)["git_dirty_sha256"] == ""


CHANGES = (
    ("a changed file", lambda root: (root / "model" / "a.py").write_text("a = 2\n")),
    ("another change", lambda root: (root / "model" / "a.py").write_text("a = 3\n")),
    ("a deleted file", lambda root: (root / "model" / "a.py").unlink()),
    ("a new file", lambda root: (root / "scaling" / "new.py").write_text("")),
    ("a new file elsewhere", lambda root: (root / "model" / "new.py").write_text("")),
    ("a new file's content", lambda root: (root / "model" / "new.py").write_text("b = 1\n")),
    ("a name that git quotes", lambda root: (root / "model" / 'ü"\n.py').write_text("")),
    ("a renamed file", lambda root: (root / "model" / "a.py").rename(root / "model" / "b.py")),
)


def test_every_change_of_the_code_has_a_digest_of_its_own(git, tmp_path):
    seen = {""}
    for name, change in CHANGES:
        change(tmp_path)
        found = facts(tmp_path)["git_dirty_sha256"]
        assert found not in seen, name
        assert found == facts(tmp_path)["git_dirty_sha256"], name
        seen.add(found)
        git("reset", "-q", "--hard")
        git("clean", "-qfd")
    assert facts(tmp_path)["git_dirty_sha256"] == ""


def test_what_is_staged_counts_like_what_is_not(git, tmp_path):
    (tmp_path / "model" / "a.py").write_text("a = 2\n")
    (tmp_path / "model" / "new.py").write_text("")
    before = facts(tmp_path)
    git("add", ".")
    assert facts(tmp_path) == before


def test_notes_results_and_ignored_files_are_no_code(git, tmp_path):
    (tmp_path / "notes" / "a.py").write_text("a = 2\n")
    (tmp_path / "notes" / "new.py").write_text("")
    (tmp_path / "model" / "ignored.py").write_text("")
    (tmp_path / "model" / "data.txt").write_text("")
    assert facts(tmp_path)["git_dirty_sha256"] == ""


def test_an_installed_copy_is_known_by_its_version(git, tmp_path):
    # Inside somebody else's repository, as an environment often is: that commit is not ours.
    (tmp_path / "site-packages" / "experiments").mkdir(parents=True)
    (tmp_path / "site-packages" / "experiments" / "provenance.py").write_text("")
    found = facts(tmp_path / "site-packages")
    assert found["git_commit"] == found["git_dirty_sha256"] == ""
    assert found["version_isoflop"]


def test_a_machine_without_git_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("git") is None
    assert facts(provenance.ROOT)["git_commit"] == ""


def test_git_is_asked_once_per_process(monkeypatch):
    software_facts()
    monkeypatch.setattr(provenance.subprocess, "run", None)
    software_facts()


def test_flags_are_recorded_and_secrets_and_paths_are_not():
    environ = {
        "XLA_FLAGS": "--xla_x",
        "JAX_ENABLE_X64": "1",
        "JAX_COMPILATION_CACHE_DIR": "/home/somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    found = software_facts(environ)
    assert found["xla_flags"] == "--xla_x"
    assert found["environment"] == "JAX_ENABLE_X64=1"
    assert "somebody" not in str(found)
    assert "secret" not in str(found)
    assert found["version_jax"]


def test_devices_of_this_process():
    found = device_facts()
    assert (found["platform"], found["n_devices"], found["n_processes"]) == ("cpu", 8, 1)
    assert found["device"]
    assert 1 <= found["n_cores"] <= os.cpu_count()


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
    monkeypatch.setattr(provenance.os, "cpu_count", provenance.n_cores)
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
    monkeypatch.setattr(provenance.os, "cpu_count", lambda: 4 * provenance.n_cores())
    meter = EnergyMeter("cpu", powercap=powercap)
    (powercap / "intel-rapl:0" / "energy_uj").write_text("9000000\n")
    assert meter.joules() == pytest.approx(1.0)
    n = provenance.n_cores()
    assert meter.source == f"rapl: share of {n} in {4 * n} cores"


def test_without_a_counter_there_is_an_estimate_that_says_so(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(provenance.time, "monotonic", lambda: now[0])
    meter = EnergyMeter("cpu", powercap=tmp_path / "nothing")
    now[0] += 10.0
    expected = 10.0 * 8.0 * provenance.n_cores()
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
    ("visible", "used"),
    [("", ("0", "1")), ("2,GPU-3", ("2", "GPU-3")), ("1, 0,2", ("0", "1"))],
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


def test_the_digest_is_that_of_path_and_content(git, tmp_path):
    (tmp_path / "model" / "a.py").write_text("a = 2\n")
    content = hashlib.sha256(b"a = 2\n").hexdigest()
    expected = hashlib.sha256(f"model/a.py\0{content}\n".encode()).hexdigest()
    assert facts(tmp_path)["git_dirty_sha256"] == expected
