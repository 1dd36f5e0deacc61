# SPDX-License-Identifier: Apache-2.0
"""Processes that share a device: how many are measured to be best, kept, and then started."""

import io
import json
import os
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from experiments.executors import local_devices as machine
from experiments.plan.arrange import arrange
from experiments.plan.plan import plan
from experiments.speed import calibration, shared_gpu
from experiments.speed.pack_sizes import PackSpeeds, shape_key, store
from experiments.speed.shared_gpu import best_number, measure, measured, probe
from experiments.train import device_sharing, run_points
from experiments.train.engines import Engine

SPEEDS = PackSpeeds(run_steps_per_second={1: 100.0, 2: 200.0, 4: 204.0})
STAND_IN = """
import json, os, sys
asked = json.loads(sys.stdin.readline())
how = os.environ["HOW"]
print("a library says hello", flush=True)
if how == "no memory":
    sys.exit(0)
print("ready", flush=True)
assert sys.stdin.readline() == "go\\n"
if how != "dies":
    print("speed", float(how) * asked["n_runs"], flush=True)
"""


@pytest.fixture
def points(study, manifest):
    """One of each shape of the study."""
    by_shape = {shape_key(point): point for point in plan(study, manifest).points}
    assert len(by_shape) > 1
    return list(by_shape.values())


@pytest.fixture
def command(tmp_path):
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    return (sys.executable, str(script))


def test_speeds_are_relative_to_the_packs_alone_and_add_up(points, command):
    chosen = [(points[0], SPEEDS), (points[1], SPEEDS)]
    # Packs of two, each at 70 runs x steps a second instead of 100.
    found = measure(chosen, os.environ | {"HOW": "70.0"}, command)
    assert found == pytest.approx(2 * 140.0 / 200.0)
    for how in ("no memory", "dies"):
        assert measure(chosen, os.environ | {"HOW": how}, command) is None


@pytest.mark.slow(reason="13 s: real processes; stand-ins take their place in the quick suite")
def test_real_processes_train_side_by_side(points, tmp_path):
    one = PackSpeeds(run_steps_per_second={1: 1.0})
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path)}
    found = measure([(points[0], one), (points[1], one)], environment)
    assert found > 0


def test_the_number_doubles_while_it_gains_and_is_kept(points, tmp_path, monkeypatch):
    for point in points[:2]:
        store(tmp_path, "H200", shape_key(point), SPEEDS)
    shapes = measured(points, tmp_path, "H200")
    assert [point.id for point, _ in shapes] == [point.id for point in points[:2]]
    asked = []

    def stand_in(chosen, environment):
        asked.append((len({point.id for point, _ in chosen}), environment["N"]))
        return {1: 1.0, 2: 1.8, 4: 1.85}[len(chosen)]

    monkeypatch.setattr(shared_gpu, "measure", stand_in)
    assert best_number(tmp_path, "H200") is None
    assert probe(shapes, tmp_path, "H200", [{"N": str(2**i)} for i in range(4)]) == 2
    assert asked == [(1, "1"), (2, "2"), (2, "4")]
    assert best_number(tmp_path, "H200") == 2
    # Packs are still looked up beside it.
    assert measured(points, tmp_path, "H200") == shapes


def test_workers_share_each_gpu_as_was_measured(monkeypatch):
    monkeypatch.setattr(machine, "has_accelerator", lambda: True)
    monkeypatch.setattr(machine, "visible_gpus", lambda: ["0", "1"])
    shown = [place.environment for place in machine.worker_places(None, 100, 1, per_device=2)]
    assert [e["CUDA_VISIBLE_DEVICES"] for e in shown] == ["0", "1", "0", "1"]
    assert {e["XLA_PYTHON_CLIENT_MEM_FRACTION"] for e in shown} == {"0.450"}
    assert len(machine.worker_places(None, 3, 1, per_device=2)) == 3
    assert len(machine.worker_places(1, 100, 1, per_device=2)) == 1


def test_it_is_measured_once_before_runs_of_several_shapes(points, study, tmp_path, monkeypatch):
    planned_jobs = arrange(points, (1, 1, 1, 1))
    console = Console(file=io.StringIO())
    known = SimpleNamespace(device="H200")
    monkeypatch.setattr(calibration, "load", lambda results: known)
    calls = []

    def stand_in(chosen, environment):
        calls.append(environment["XLA_PYTHON_CLIENT_MEM_FRACTION"])
        return {1: 1.0, 2: 1.7, 4: 3.0, 8: 3.0}[len(chosen)]

    monkeypatch.setattr(shared_gpu, "measure", stand_in)

    def number(n_workers=None):
        """Of processes that share the one GPU."""
        training = run_points.Training(engine=Engine(), n_workers=n_workers)
        ledger = SimpleNamespace(results=tmp_path)
        local = run_points._local(training, study, ledger, planned_jobs, 100, console, None)
        return len(local.places)

    assert device_sharing.workers_per_device(tmp_path, planned_jobs, console, None) == 1, "a CPU"
    for module in (device_sharing, machine):
        monkeypatch.setattr(module, "has_accelerator", lambda: True)
        monkeypatch.setattr(module, "visible_gpus", lambda: ["3"])
    assert number() == 1  # Of no shape is its pack known.
    for point in points:
        store(tmp_path, "H200", shape_key(point), SPEEDS)
    assert number(n_workers=3) == 3
    assert calls == []
    assert number() == 4
    assert calls == ["0.900", "0.450", "0.225", "0.113"]
    assert number() == 4
    assert len(calls) == 4
    assert json.loads((tmp_path / "packs.json").read_text())
