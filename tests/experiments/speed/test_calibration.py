# SPDX-License-Identifier: Apache-2.0
"""What finished runs say of a machine plans the same runs again."""

import dataclasses

import pytest

from experiments.cost.estimate import Terms, estimate, stages
from experiments.plan.plan import plan
from experiments.speed import calibration, device_speed

FREE = Terms(price=None, watts=None, watts_source="", pue=1.0, carbon=0.0)


def test_the_same_runs_are_planned_to_take_what_they_took(study, manifest, ledger, record):
    grid = plan(study, manifest)
    ledger.write_plan("{}", list(grid.points))
    programs, took = set(), 0.0
    for i, point in enumerate(grid.points):
        work = point.flops["matmul_full"] / point.spec.train.schedule.n_steps
        # One compiled on a busy machine, most find their program there.
        compiling = 40.0 if i == 3 else 0.1 if work in programs else 5.0
        programs.add(work)
        costs = {"train_seconds": 20.0, "compile_seconds": compiling}
        rate = round(point.flops["matmul_full"] / 20.0)
        ledger.write_result(point.id, record(2.0, costs=costs | {"flops_per_second": rate}))
        took += 20.0 + compiling
    assert 1 < len(programs) < len(grid.points)
    known = calibration.learn(ledger, grid.points)
    planned = estimate(
        stages(study, grid), device_speed.here(known), FREE, n_devices=1, n_devices_per_work=1
    )
    evaluating = sum(work.eval_flops / known.speed(work.flops_per_step) for work in planned.works)
    assert planned.total_device_seconds - evaluating == pytest.approx(took, rel=1e-6)


def test_a_run_beyond_the_grid_is_planned_by_those_that_trained_alone(
    study, manifest, ledger, record, tmp_path
):
    study = dataclasses.replace(study, forecast_budgets=(8e11,))
    grid = plan(study, manifest)
    last = grid.points[-1]
    beyond = dataclasses.replace(grid.points[0], role="forecast")
    ledger.write_plan("{}", list(grid.points))
    for point, rate in ((last, 10**6), (beyond, 3 * 10**6)):
        costs = {"train_seconds": 20.0, "compile_seconds": 0.0, "flops_per_second": rate}
        ledger.write_result(point.id, record(2.0, costs=costs))
        known = calibration.learn(ledger, [point]) or calibration.load(tmp_path)
        speeds = calibration.learn_beyond_grid(ledger, [point])
        calibration.store(tmp_path, dataclasses.replace(known, beyond_grid=speeds))
    speed = device_speed.here(calibration.load(tmp_path))
    *_, (of_beyond,) = works = stages(study, grid)
    of_grid = next(work for work in works[0] if work.flops == last.flops["matmul_full"])
    planned = estimate(works, speed, FREE, n_devices=1, n_devices_per_work=1).device_seconds
    for work, rate in ((of_grid, 1e6), (of_beyond, 3e6)):
        expected = (work.flops + work.eval_flops) / rate
        assert planned[work.name] == pytest.approx(expected, rel=1e-6)
