# SPDX-License-Identifier: Apache-2.0
"""Who owns a job: dead owners, living ones, silent ones, and those nobody can judge."""

import dataclasses
import os
import subprocess
import sys

import pytest

from experiments.files import checked_json
from experiments.files.storage import Storage
from experiments.ledger.claims import GaveUp, JobFolder, Owned
from experiments.ledger.owner import engine_identity, is_dead, this_process
from experiments.plan.jobs import alone, job_id

LEASE = 100.0
CLAIM = """
import sys
from pathlib import Path
from experiments.ledger.claims import JobFolder
from experiments.ledger.owner import this_process
from experiments.files import checked_json
from experiments.files.storage import Storage
job = JobFolder(Storage(Path(sys.argv[1])), "job")
print(job.claim(this_process(), lease_seconds=100, max_attempts=99), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def job(tmp_path):
    return JobFolder(Storage(tmp_path), "job")


@pytest.fixture
def me():
    return this_process({})


def claim(job, me, **options):
    return job.claim(me, **{"lease_seconds": LEASE, "max_attempts": 3} | options)


def grow_old(job, number, seconds):
    for name in (f"hb/{number:06d}", f"claims/{number:06d}.json"):
        path = job.storage.root / job.key / name
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))


@pytest.fixture
def other(tmp_path):
    """Another living process that owns the job."""
    with subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "1\n"
        yield process
        process.kill()


def test_a_living_owner_keeps_its_job_until_it_is_silent(job, me, other):
    with pytest.raises(Owned, match=f"process {other.pid} on .* has it, last heard of 0 s ago"):
        claim(job, me)
    grow_old(job, 1, LEASE - 10)
    with pytest.raises(Owned):
        claim(job, me)
    grow_old(job, 1, 20)
    assert claim(job, me) == 2
    assert job.is_superseded(1)
    assert not job.is_superseded(2)
    assert job.ending(1).how == "killed"
    assert "was silent for 11" in job.ending(1).reason


def test_a_killed_owner_is_replaced_at_once_even_before_it_is_reaped(job, me, other):
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # It is a zombie now.
    assert claim(job, me) == 2
    assert job.ending(1).reason.endswith("ended without a word")
    assert [e.how for e in job.failures()] == ["killed"]


@pytest.mark.parametrize("field", ["boot_id", "pid_namespace"])
def test_the_kernel_is_asked_only_about_its_own_processes(me, field):
    dead = dataclasses.replace(me, pid=2**22 + 1)
    assert is_dead(dead, me)
    assert not is_dead(me, me)
    assert not is_dead(dataclasses.replace(dead, **{field: "another"}), me)
    reused = dataclasses.replace(me, start_ticks=me.start_ticks - 1)
    assert is_dead(reused, me), "the number was given to another process"


def test_a_process_that_proc_hides_from_us_is_alive(me, monkeypatch):
    """Another user's, where /proc is mounted with hidepid."""
    gone = dataclasses.replace(me, pid=2**22 + 1)

    def refuse(pid, number):
        assert (pid, number) == (gone.pid, 0)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refuse)
    assert not is_dead(gone, me)


def test_where_proc_speaks_of_other_processes_the_kernel_is_not_asked(me, monkeypatch):
    """As after `unshare --pid` without a /proc of its own."""
    monkeypatch.setattr(os, "getpid", lambda: 2**22 + 1)
    here = this_process({})
    assert here.pid_namespace == ""
    assert not is_dead(dataclasses.replace(here, pid=2**22 + 2), here)


def test_a_risen_restart_count_of_the_same_engine_job_means_that_the_owner_is_dead(me):
    away = dataclasses.replace(me, boot_id="another", engine="slurm", engine_job="7_3", restarts=1)
    here = dataclasses.replace(me, engine="slurm", engine_job="7_3", restarts=1)
    assert not is_dead(away, here)
    assert is_dead(away, dataclasses.replace(here, restarts=2))
    assert not is_dead(away, dataclasses.replace(here, restarts=2, engine_job="7_4"))
    assert not is_dead(dataclasses.replace(away, engine="", engine_job=""), me)


@pytest.mark.parametrize(
    ("environment", "identity"),
    [
        ({}, ("", "", 0)),
        ({"SLURM_JOB_ID": "9"}, ("slurm", "9", 0)),
        (
            {
                "SLURM_JOB_ID": "9",
                "SLURM_ARRAY_JOB_ID": "7",
                "SLURM_ARRAY_TASK_ID": "3",
                "SLURM_RESTART_COUNT": "2",
            },
            ("slurm", "7_3", 2),
        ),
        (
            {
                "ISOFLOP_ENGINE": "kubernetes",
                "ISOFLOP_ENGINE_JOB": "uid-4",
                "ISOFLOP_ENGINE_RESTARTS": "1+2",
            },
            ("kubernetes", "uid-4", 3),
        ),
        ({"ISOFLOP_ENGINE": "kubernetes"}, ("kubernetes", "", 0)),
    ],
)
def test_the_engine_is_read_from_its_variables(environment, identity):
    assert engine_identity(environment) == identity


def test_an_attempt_that_ended_leaves_the_job_free_and_counts_only_if_it_failed(job, me):
    for number, how in enumerate(("preempted", "exception", "refused", "oom", "killed"), 1):
        assert claim(job, me) == number
        job.end(number, how, f"{how} it was", 0)
    assert [e.how for e in job.failures()] == ["exception", "oom", "killed"]
    with pytest.raises(GaveUp, match="failed 3 times, last: killed it was"):
        claim(job, me)
    job.forgive()
    assert job.failures() == []
    assert claim(job, me) == 6


def test_progress_forgives_earlier_failures(job, me):
    for number, step in enumerate((0, 0, 50, 50, 50), 1):
        assert claim(job, me) == number
        job.end(number, "killed", f"at {step}", step)
    assert [e.step for e in job.failures()] == [50, 50, 50]
    with pytest.raises(GaveUp):
        claim(job, me)


def test_an_ending_is_written_once(job, me):
    claim(job, me)
    assert job.end(1, "oom", "first", 3)
    assert not job.end(1, "killed", "second", 9)
    assert job.ending(1).reason == "first"


def test_of_many_that_want_a_job_one_gets_it(tmp_path, job):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    said = [process.stdout.readline() for process in processes]
    for process in processes:
        process.communicate()
    assert sorted(said) == [""] * 5 + ["1\n"]
    assert job.newest() == 1


def damages(path):
    good = path.read_bytes()
    yield from (good[: len(good) // 2], b"", None)
    for i in range(64):
        position = i * len(good) // 64
        flipped = bytearray(good)
        flipped[position] ^= 1 << i % 8
        yield bytes(flipped)


def test_a_damaged_claim_leaves_the_heartbeat_to_decide(job, me, tmp_path):
    claim(job, me)
    path = tmp_path / job.key / "claims" / "000001.json"
    for damaged in damages(path):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        named = "" if damaged is None else r" \(.*/jobs/job/claims/000001.json is damaged.\)"
        with pytest.raises(Owned, match=f"an unknown process{named} has it"):
            claim(job, dataclasses.replace(me, pid=1))
    path.unlink(missing_ok=True)
    heart = tmp_path / job.key / "hb" / "000001"
    os.utime(heart, (0, 0))
    assert claim(job, me) == 2, "the number of a deleted claim is not given again"


def test_a_damaged_ending_counts_as_a_failure_and_is_named(job, me, tmp_path):
    for number in (1, 2, 3):
        claim(job, me)
        job.end(number, "preempted", "fine", 0)
        path = tmp_path / job.key / "attempts" / f"{number:06d}.json"
        path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(GaveUp, match=r"attempts/000003\.json is damaged"):
        claim(job, me)


def test_a_job_is_written_once_and_read_back(job, points):
    made = alone(points[0]).job
    assert job.job() is None
    assert job.storage.create(f"{job.key}/job.json", checked_json.encode(made))
    assert not job.storage.create(f"{job.key}/job.json", checked_json.encode(alone(points[1]).job))
    assert job.job() == made


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"members": ()}, "a solo of 0 points"),
        ({"members": ("one", "two")}, "a solo of 2 points"),
        ({"members": ("other",)}, "does not follow from its members"),
        ({"kind": "pack", "members": ("one", "two")}, "does not follow from its members"),
        ({"parent": "other"}, "a solo from step 0 with parent other"),
        ({"kind": "branch", "steps": (1, 2)}, "a branch from step 1 with parent None"),
        ({"steps": (1, 2), "parent": "other"}, "a solo from step 1"),
        ({"steps": (2, 2)}, "steps 2 to 2"),
    ],
)
def test_a_job_that_cannot_be_is_refused(points, changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(alone(points[0]).job, **changes)
    members = tuple(point.id for point in points[:2])
    made = alone(points[0]).job
    dataclasses.replace(made, kind="pack", members=members, id=job_id(members))
    dataclasses.replace(made, kind="trunk", id="trunk-1")
    dataclasses.replace(made, kind="branch", parent="trunk-1", steps=(1, 2))
