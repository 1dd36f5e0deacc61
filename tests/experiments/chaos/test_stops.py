# SPDX-License-Identifier: Apache-2.0
"""A full disk, a folder that cannot be written, a request to end: one line, the right exit code,
nothing half done, and the next one goes on."""

import contextlib
import os
import signal
import subprocess
import time

import pytest

pytestmark = pytest.mark.chaos
OFTEN, NEVER = ("--checkpoint-seconds", "0"), ("--checkpoint-seconds", "1000")


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own, of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3M", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs (root)")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk):
    with (disk / "ballast").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 512)


def last_word(grid, runner):
    """The one line in which it says why it ends, behind its progress."""
    said = grid.said(runner)
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("isoflop: ")]
    return line


def test_a_full_disk_ends_a_study_in_one_line_and_it_goes_on_when_there_is_room(
    make_grid, small_disk, calm_grid, patiently, record_property
):
    grid = make_grid("disk")
    runner = grid.run("--workers", "1", *OFTEN)
    patiently(lambda: any(a.has_checkpoint for a in grid.working()), "a checkpoint")
    began = time.monotonic()
    while runner.poll() is None:
        fill(small_disk)
        time.sleep(0.01)
    record_property("full_disk_to_exit_seconds", round(time.monotonic() - began, 2))
    grid.finish(runner, 74)
    line = last_word(grid, runner)
    assert "No space left on device" in line
    assert "Free space there; finished runs are kept." in line
    for folder in (grid.ledger.folder / "runs").iterdir():
        grid.ledger.read_result(folder.name)  # None, or a whole one.
    (small_disk / "ballast").unlink()
    grid.finish(grid.run("--workers", "1", *OFTEN), 0)
    assert grid.results() == calm_grid.results()
    resumed = [grid.ledger.read_result(name).costs.resumed_at for name in grid.results()]
    record_property("resumes", sum(step > 0 for step in resumed))


def test_a_folder_that_cannot_be_written_ends_runner_and_worker_in_one_line(
    make_grid, small_disk, calm_digest
):
    grid = make_grid("disk")
    job = grid.prepare()[0]
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    runner, worker = grid.run(), grid.worker(job)
    grid.finish(runner, 74)
    grid.finish(worker, 74)
    line = last_word(grid, runner)
    assert "Read-only file system" in line
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    grid.finish(grid.worker(job), 0)
    assert grid.ledger.read_result(job).params_sha256 == calm_digest


def seconds_to_exit(grid, process, code, record_property, name):
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    grid.finish(process, code)
    record_property(f"sigterm_to_exit_seconds_{name}", round(time.monotonic() - began, 2))


def has_trained(grid):
    return [path for path in grid.ledger.folder.glob("runs/*/metrics/*") if path.stat().st_size]


def test_a_worker_that_is_told_to_end_while_it_trains_saves_first(
    make_grid, calm_digest, patiently, record_property
):
    grid = make_grid("told")
    job = grid.prepare()[0]
    worker = grid.worker(job, *NEVER)
    patiently(lambda: has_trained(grid), "training")
    seconds_to_exit(grid, worker, 75, record_property, "training")
    ending = grid.ending(job, 1)
    assert (ending.how, ending.step > 0) == ("preempted", True)
    grid.finish(grid.worker(job, *NEVER), 0)
    record = grid.ledger.read_result(job)
    assert record.provenance.resumed_at_steps == (0, ending.step)
    assert record.params_sha256 == calm_digest


def test_a_worker_that_is_told_to_end_while_it_compiles_ends_at_once(
    make_grid, patiently, record_property
):
    grid = make_grid("told")
    grid.cache = grid.folder / "nothing compiled"
    job = grid.prepare()[0]
    worker = grid.worker(job)
    patiently(lambda: grid.working(), "a claim")
    seconds_to_exit(grid, worker, 75, record_property, "compiling")
    ending = grid.ending(job, 1)
    assert (ending.how, ending.reason) == ("preempted", "asked to stop while it compiled")


def test_a_runner_that_is_told_to_end_lets_its_workers_save(
    make_grid, calm_grid, patiently, record_property
):
    grid = make_grid("told")
    runner = grid.run("--workers", "1", *NEVER)
    patiently(lambda: has_trained(grid), "training")
    seconds_to_exit(grid, runner, 75, record_property, "runner")
    line = last_word(grid, runner)
    assert line == "isoflop: asked to stop. Finished runs are kept; the same command goes on."
    assert not grid.working()
    grid.finish(grid.run("--workers", "1", *NEVER), 0)
    assert grid.results() == calm_grid.results()


def test_the_worker_of_a_runner_that_was_killed_alone_saves_and_ends(
    make_grid, patiently, record_property
):
    grid = make_grid("orphan")
    runner = grid.run("--workers", "1", *NEVER)
    patiently(lambda: has_trained(grid), "training")
    (orphan,) = grid.working()
    runner.kill()
    began = time.monotonic()
    patiently(lambda: not grid.working(), "the end of the orphan")
    record_property("orphan_to_exit_seconds", round(time.monotonic() - began, 2))
    if not grid.ledger.has_result(orphan.job):
        ending = grid.ending(orphan.job, 1)
        assert (ending.how, ending.step > 0) == ("preempted", True)
