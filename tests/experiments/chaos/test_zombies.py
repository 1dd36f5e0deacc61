# SPDX-License-Identifier: Apache-2.0
"""Workers that wake up after they were replaced, clocks that are wrong, owners nobody can judge:
exactly one result, and it is the right one."""

import os
import signal
import subprocess
import time

import pytest

pytestmark = pytest.mark.chaos
LEASE = 4
OPTIONS = ("--checkpoint-seconds", "0", "--lease-seconds", str(LEASE))
HOUR = 3600


@pytest.fixture
def grid(make_grid):
    return make_grid("contested")


@pytest.fixture
def job(grid):
    return grid.prepare()[0]


@pytest.fixture
def saved(grid, job, patiently):
    """Waits until an attempt at the job has a checkpoint; returns the attempt."""

    def wait(number):
        def found():
            return [w for w in grid.working() if w.number == number and w.has_checkpoint]

        return patiently(found, f"a checkpoint of attempt {number}")[0]

    return wait


def one_result(grid, job, calm_digest):
    (path,) = (grid.ledger.folder / "runs" / job).glob("result*")
    assert path.name == "result.json"
    record = grid.ledger.read_result(job)
    assert record.params_sha256 == calm_digest
    assert record.provenance.resumed_at_steps[-1] > 0
    return record


@pytest.mark.parametrize("wakes", ["before its successor has ended", "long after"])
def test_a_zombie_leaves_with_exit_code_3(grid, job, saved, calm_digest, record_property, wakes):
    zombie = grid.worker(job, *OPTIONS)
    saved(1)
    zombie.send_signal(signal.SIGSTOP)
    time.sleep(LEASE + 1)
    successor = grid.worker(job, *OPTIONS)
    if wakes == "long after":
        grid.finish(successor, 0)
    else:
        saved(2)
    zombie.send_signal(signal.SIGCONT)
    grid.finish(zombie, 3)
    grid.finish(successor, 0)
    record = one_result(grid, job, calm_digest)
    assert record.provenance.attempt == 2
    assert "was silent for" in grid.ending(job, 1).reason
    grid.finish(grid.worker(job, *OPTIONS), 0)
    record_property("zombies", 1)


@pytest.mark.parametrize("skew", [-HOUR, HOUR])
def test_a_clock_that_is_wrong_by_an_hour_neither_hastens_nor_hinders(
    grid, job, saved, calm_digest, record_property, skew
):
    owner = grid.worker(job, *OPTIONS, skew=-skew)
    saved(1)
    other = grid.worker(job, *OPTIONS, skew=skew)
    owner.send_signal(signal.SIGSTOP)  # It must not end before the other has asked.
    began = time.monotonic()
    if other.wait() == 0:
        assert time.monotonic() - began > LEASE / 2
    else:
        grid.finish(other, 3)
        time.sleep(LEASE + 1)
        grid.finish(grid.worker(job, *OPTIONS, skew=skew), 0)
    owner.send_signal(signal.SIGCONT)
    grid.finish(owner, 3)
    one_result(grid, job, calm_digest)
    record_property("clocks_wrong_by_an_hour", 1)


CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.mark.parametrize("where", ["container", "host"])
def test_nobody_knows_that_an_owner_elsewhere_is_dead_until_the_lease_is_over(
    grid, job, patiently, calm_digest, record_property, where
):
    lease = ("--checkpoint-seconds", "0", "--lease-seconds", "30")
    if where == "container":
        if subprocess.run([*CONTAINER, "true"], capture_output=True).returncode != 0:
            pytest.skip("needs the right to make a PID namespace (root)")
        away = grid.worker(job, *lease, prefix=CONTAINER)
    else:
        away = grid.worker(job, *lease, boot="another-boot")
    folder = grid.ledger.folder / "jobs" / job
    patiently(lambda: list(folder.glob("checkpoints/*-1.sha256")), "a checkpoint")
    os.killpg(away.pid, signal.SIGKILL)
    away.wait()
    assert not grid.ledger.has_result(job)
    grid.finish(grid.worker(job, *lease), 3)
    for path in [*folder.glob("hb/*"), *folder.glob("claims/*")]:
        os.utime(path, (time.time() - 31, time.time() - 31))
    grid.finish(grid.worker(job, *lease), 0)
    assert "was silent for" in grid.ending(job, 1).reason
    one_result(grid, job, calm_digest)
    record_property("owners_killed_elsewhere", 1)


def test_a_dead_owner_here_is_replaced_at_once(grid, job, saved, calm_digest):
    lease = ("--checkpoint-seconds", "0", "--lease-seconds", "3600")
    victim = grid.worker(job, *lease)
    saved(1)
    victim.kill()
    grid.finish(grid.worker(job, *lease), 0)
    assert grid.ending(job, 1).reason.endswith("ended without a word")
    one_result(grid, job, calm_digest)
