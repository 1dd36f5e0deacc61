# SPDX-License-Identifier: Apache-2.0
"""What is measured of a machine, with stand-ins for the clock; and once with a real one."""

import io
import subprocess
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from experiments.plan.plan import plan
from experiments.plan.point import to_json
from experiments.speed import calibrate, calibration, measure_pack
from experiments.speed.pack_sizes import best_pack, shape_key


@pytest.fixture
def points(study, manifest):
    return plan(study, manifest).points


def work(point) -> float:
    return point.flops["matmul_full"] / point.spec.train.schedule.n_steps


def test_speeds_of_the_points_on_standard_input_are_kept(points, tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate, "start_jax", lambda cores, cache, n_devices: None)
    peak = SimpleNamespace(flops_per_second=1e10, source="a table")
    monkeypatch.setattr(calibrate, "device_peak", lambda dtype, n_devices: peak)
    monkeypatch.setattr(calibrate, "N_PROBES", 3)
    seen = []

    def measure(point, mesh):
        seen.append((work(point), mesh))
        return 2.0 + len(seen), 1e9 * len(seen)

    monkeypatch.setattr(calibrate, "_measure", measure)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(map(to_json, points))))
    monkeypatch.setattr(sys, "argv", ["calibrate", "--results", str(tmp_path), "--mesh", "1,2,1,1"])
    calibrate.main()
    works = [each for each, _ in seen]
    assert works == sorted(works)
    assert (works[0], works[-1]) == (min(map(work, points)), max(map(work, points)))
    assert {mesh for _, mesh in seen} == {(1, 2, 1, 1)}
    # Of meshes of two devices: runs on one are not planned by it.
    assert calibration.load(tmp_path) is None
    found = calibration.load(tmp_path, 2)
    assert sorted(found.flops_per_second.values()) == [1e9, 2e9, 3e9]
    assert list(found.flops_per_second) == pytest.approx(works, rel=1e-6)
    assert (found.peak_flops_per_second, found.compile_seconds) == (1e10, 4.0)


def test_packs_of_each_shape_are_measured_once(points, tmp_path, monkeypatch):
    asked = []

    def measure(model, train, n_runs: int) -> float:
        asked.append((model.d_model, train.batch_size, n_runs))
        return 10.0 if n_runs == 1 else 9.0

    monkeypatch.setattr(measure_pack, "measure", measure)
    monkeypatch.setattr(calibrate, "device_facts", lambda: {"device": "H200"})
    text = io.StringIO()
    for _ in range(2):
        calibrate.measure_packs(points, tmp_path, Console(file=text, width=200))
    shapes = {(p.spec.model.d_model, p.spec.train.batch_size) for p in points}
    assert sorted(asked) == sorted((*shape, n) for shape in shapes for n in (1, 2))
    assert text.getvalue().count("packs of 1") == len({shape_key(p) for p in points})
    assert {best_pack(tmp_path, "H200", p) for p in points} == {1}


@pytest.mark.slow(reason="a real process measures this machine")
def test_a_process_measures_this_machine(points, tmp_path):
    command = [sys.executable, "-m", "experiments.speed.calibrate", "--results", str(tmp_path)]
    done = subprocess.run(
        command, input=to_json(points[0]), capture_output=True, text=True, check=True
    )
    found = calibration.load(tmp_path)
    assert "packs: on a CPU one process per core is the pack" in done.stdout
    (speed,) = found.flops_per_second.values()
    assert 0 < speed < found.peak_flops_per_second * 1.5
    assert found.compile_seconds > 0
