# SPDX-License-Identifier: Apache-2.0
import io
import re
import time

import pytest
from rich.console import Console

from experiments.cli.plan import plan_table
from experiments.executors.worker_events import Progress, Run
from experiments.files.checked_json import with_checksum
from experiments.plan.arrange import arrange
from experiments.plan.plan import plan
from experiments.speed.calibration import Calibration, load, store
from experiments.terminal.table import duration
from experiments.train import live_view


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200, markup=False)


@pytest.fixture
def planned_jobs(points):
    return arrange(points, (1, 1, 1, 1))


@pytest.fixture
def known():
    return Calibration(
        device="a [/test] processor",
        flops_per_second={1e8: 1e10, 1e10: 4e10},
        peak_flops_per_second=1e11,
        compile_seconds=5.0,
    )


def event(point, share, *, train_seconds=10.0, resumed_at=0):
    n_steps = point.spec.train.schedule.n_steps
    step = round(share * n_steps)
    return Progress(
        id=point.id,
        step=step,
        n_tokens=round(point.n_tokens * step / n_steps),
        loss_nats=2.5,
        resumed_at=resumed_at,
        train_seconds=train_seconds,
    )


def test_durations_read_like_a_clock():
    cases = {0: "0:00", 59.6: "1:00", 61: "1:01", 3600: "1:00:00", 86399: "23:59:59"}
    assert {s: duration(s) for s in cases} == cases


def test_the_plan_shows_every_size_and_what_was_refused(study, manifest, console, changed):
    coarse = plan(changed(study, "recipe.batch.multiple", 160), manifest)
    console.print(plan_table(coarse))
    text = console.file.getvalue()
    for point in coarse.points:
        assert f"{point.params.total:,}" in text
    assert f"{len(coarse.points)} runs, " in text
    assert text.count("left out at ") == len(coarse.left_out) > 0


def test_the_time_left_follows_from_what_is_done(points, console, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    same = [p for p in points if p.spec.model.d_model == 16 and p.budget == 1e11]
    planned_jobs = arrange(same, (1, 1, 1, 1))
    view = live_view.RunDisplay(console, len(same), planned_jobs, None)
    assert view._time_left() == "unknown"
    now[0] += 40.0
    view.progress(0, planned_jobs[0], event(same[0], 0.5, train_seconds=30.0))
    assert view._time_left() == "1:30"  # A quarter of the work in 30 s; ten more were compiling.
    view.progress(0, planned_jobs[0], event(same[0], 1.0, train_seconds=60.0))
    view.done(0, planned_jobs[0], [Run()])
    assert view._time_left() == "1:00"
    assert view._summary().startswith("1 of 2 runs done, 0:40 gone")
    half = same[1].spec.train.schedule.n_steps // 2
    view.progress(0, planned_jobs[1], event(same[1], 0.5, train_seconds=0.0, resumed_at=half))
    assert view._time_left() == "0:30"  # An earlier attempt did the first half.


def test_compiling_what_is_still_to_come_is_counted(points, console, monkeypatch):
    """Two workers, programs that take 8 s each, steps at one speed: the truth is known."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    planned_jobs = arrange(points, (1, 1, 1, 1))
    view = live_view.RunDisplay(console, len(points), planned_jobs, None)
    n_programs, rate = len(view.programs), view.work_left / 200.0
    truth = (200.0 + 8.0 * n_programs) / 2
    now[0] += 10.0
    for slot, planned_job in enumerate((planned_jobs[0], planned_jobs[-1])):
        share = 2.0 * rate / view.weights[planned_job.job.id]
        n_steps = planned_job.points[0].spec.train.schedule.n_steps
        step = event(planned_job.points[0], round(share * n_steps) / n_steps, train_seconds=2.0)
        view.progress(slot, planned_job, step)
    minutes, seconds = map(int, view._time_left().split(":"))
    assert 60 * minutes + seconds == pytest.approx(truth - 10.0, rel=0.05)


def test_speed_and_share_of_the_peak_are_those_of_this_attempt(
    points, planned_jobs, console, known
):
    point = points[0]
    view = live_view.RunDisplay(console, len(planned_jobs), planned_jobs, known)
    line = view._run_line(planned_jobs[0], event(point, 0.5, train_seconds=5.0))
    speed = point.flops["matmul_full"] / 2 / 5.0
    assert f"{speed / 1e9:.0f} GFLOP/s (MFU {speed / 1e11:.0%})" in line
    half = round(0.25 * point.spec.train.schedule.n_steps)
    line = view._run_line(planned_jobs[0], event(point, 0.5, train_seconds=2.5, resumed_at=half))
    assert float(re.search(r"([0-9.]+) GFLOP", line).group(1)) == pytest.approx(speed / 1e9, abs=1)


def test_before_any_time_was_measured_no_speed_is_shown(points, planned_jobs, console):
    view = live_view.RunDisplay(console, len(planned_jobs), planned_jobs, None)
    line = view._run_line(planned_jobs[0], event(points[0], 0.1, train_seconds=0.0))
    assert "tok/s" not in line
    assert "left" not in line


def test_failures_notes_and_divergence_are_printed_as_they_are(planned_jobs, console):
    view = live_view.RunDisplay(console, len(planned_jobs), planned_jobs, None)
    view.failed(0, planned_jobs[0], "killed [/oom] :boom:", 1)
    view.done(0, planned_jobs[0], [Run(notes=("resumed",), status="diverged", reason="step 3")])
    text = console.file.getvalue()
    assert "attempt 1 failed: killed [/oom]" in text
    assert "resumed" in text
    assert "diverged: step 3" in text


def test_speed_is_interpolated_in_the_logarithm_of_the_work_per_step(known):
    assert known.speed(1e9) == pytest.approx(2e10)
    assert known.speed(1e8) == pytest.approx(1e10)
    assert known.speed(1e5) == pytest.approx(1e10)
    assert known.speed(1e15) == pytest.approx(4e10)


def test_a_calibration_is_kept_by_host_and_newer_measurements_win(tmp_path, known, points):
    assert load(tmp_path) is None
    store(tmp_path, known)
    assert load(tmp_path) == known
    newer = Calibration(
        device="b", flops_per_second={1e10: 5e10}, peak_flops_per_second=2e11, compile_seconds=4.0
    )
    store(tmp_path, newer)
    assert load(tmp_path).flops_per_second == {1e8: 1e10, 1e10: 5e10}
    assert load(tmp_path).seconds(points[0]) > 0
    path = tmp_path / "calibration.json"
    good = path.read_bytes()
    for position in range(len(good)):
        flipped = bytearray(good)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"calibration\.json is damaged. Delete it"):
            load(tmp_path)
    path.write_bytes(with_checksum('{"host": {"device": 1}}'))
    with pytest.raises(ValueError, match=r"calibration\.json is not what it should be"):
        load(tmp_path)
