# SPDX-License-Identifier: Apache-2.0
"""Arrays on a real Slurm (make test-slurm): nothing lost, nothing doubled, whatever Slurm does."""

import collections
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments.executors.base import QueuedJob, Resources
from experiments.executors.slurm import REQUEUE, Slurm

pytestmark = pytest.mark.slurm

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in_worker.py")))
SMALL = Resources(n_processes=1, n_cpus=1, n_gpus=0, memory_bytes=2**30, seconds=None)


@dataclass(frozen=True)
class Study:
    """A study folder whose jobs the stand-in works on."""

    root: Path

    def ask_for(self, name: str, **job) -> tuple[str, Resources]:
        for folder in ("jobs", "runs", "checkpoints"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        job = {"n_steps": 2, "seconds": 0.1} | job
        (self.root / "jobs" / f"{name}.json").write_text(json.dumps(job))
        return name, SMALL

    def events(self, name: str, event: str = "") -> list[dict]:
        path = self.root / "events.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [r for r in rows if r["id"] == name and r["event"].startswith(event)]

    def steps(self) -> dict[str, int]:
        return {path.name: int(path.read_text()) for path in (self.root / "runs").iterdir()}

    def is_saved(self, name: str, step: int = 1) -> bool:
        path = self.root / "checkpoints" / name
        return path.exists() and int(path.read_text()) >= step


@pytest.fixture
def study(slurm, tmp_path, figures):
    yield Study(tmp_path / "study")
    slurm.clear()
    figures["tests with a stand-in worker"] += 1


def engine(**options) -> Slurm:
    return Slurm(worker=STAND_IN, **options)


def queue(jobs):
    """Jobs of ids and needs, none before another."""
    return [QueuedJob(id=name, needs=needs, flops=1.0) for name, needs in jobs]


def only_task(slurm) -> str:
    (row,) = slurm.queued()
    return row["id"]


def test_every_job_is_done_once_in_arrays_of_the_size_that_slurm_allows(slurm, tmp_path, figures):
    study = Study(tmp_path / 'it\'s 100 % $HOME "ab" `x`' / "study")
    jobs = [study.ask_for(f"job-{n}") for n in range(12)]
    larger = Resources(n_processes=1, n_cpus=2, n_gpus=0, memory_bytes=3 * 2**30, seconds=5.0)
    jobs += [(study.ask_for(f"large-{n}")[0], larger) for n in range(3)]
    told = engine(max_concurrent=2, partition="low").run(study.root, queue(jobs), None)
    assert told.count("Slurm array") == 4, "5 + 5 + 2 tasks, and three short jobs in one"
    slurm.wait_until_empty()
    assert study.steps() == {name: 2 for name, _ in jobs}
    for name, resources in jobs:
        (event,) = study.events(name, "done")
        assert event["SLURM_CPUS_PER_TASK"] == str(resources.n_cpus)
    pids = {study.events(f"large-{n}", "done")[0]["pid"] for n in range(3)}
    assert len(pids) == 1, "short jobs share a process"
    assert (study.root / "slurm" / "000001" / "0.log").exists()
    figures["jobs in arrays"] += len(jobs)
    figures["arrays"] += 4


def test_jobs_that_slurm_holds_are_not_submitted_again(study, slurm):
    jobs = [study.ask_for(f"job-{n}", n_steps=30) for n in range(6)]
    engine().run(study.root, queue(jobs[:4]), None)
    before = slurm.queued()
    told = engine().run(study.root, queue(jobs[:4]), None)
    assert told == "4 jobs are in the queue already."
    assert {r["id"] for r in slurm.queued()} == {r["id"] for r in before}
    told = engine().run(study.root, queue(jobs), None)
    assert "4 jobs are in the queue already." in told
    assert "2 jobs: Slurm array" in told
    elsewhere = Study(study.root.with_name("other"))
    told = engine().run(elsewhere.root, queue([elsewhere.ask_for(name) for name, _ in jobs]), None)
    assert "6 jobs: Slurm array" in told.replace("5 jobs", "").replace("1 jobs", "6 jobs")
    slurm.wait_until_empty()
    assert study.steps() == {name: 30 for name, _ in jobs}
    assert all(len(study.events(name, "start")) == 1 for name, _ in jobs)


@pytest.mark.parametrize(("save", "name"), [(1, "saves in time"), (60, "is killed while saving")])
def test_a_preempted_job_is_requeued_and_goes_on(study, slurm, figures, save, name):
    job = study.ask_for("preempted", n_steps=40, seconds=0.25, save=save)
    engine(partition="low").run(study.root, queue([job]), None)
    slurm.wait(lambda: study.is_saved("preempted", 3))
    task = only_task(slurm)
    slurm.preempt()
    # What it saves the second time must not take a minute too.
    slurm.wait(lambda: slurm.job(task)["Restarts"] == "1")
    study.ask_for("preempted", n_steps=40, seconds=0.05)
    slurm.wait_until_empty()
    assert study.steps() == {"preempted": 40}
    first, second = study.events("preempted", "start")
    assert (first["restarts"], second["restarts"]) == (0, 1)
    assert second["step"] >= 3, "it goes on, it does not begin again"
    assert len(study.events("preempted", "saved")) == (save == 1)
    figures["preemptions by a higher partition"] += 1
    figures["requeues"] += 1


def test_near_its_time_limit_a_job_saves_and_is_requeued_by_its_script(study, slurm, figures):
    # Longer than the half minute that Slurm may take to look at time limits.
    job = study.ask_for("slow", n_steps=1000, seconds=0.2)
    engine(time_limit_seconds=3600.0).run(study.root, queue([job]), None)
    slurm.wait(lambda: study.is_saved("slow", 2))
    task = only_task(slurm)
    assert slurm.job(task)["TimeLimit"] == "01:00:00"
    # Less than the signal's lead: it comes with the next look.
    slurm.ask("scontrol", "update", f"JobId={task}", "TimeLimit=2")
    slurm.wait(lambda: slurm.job(task)["Restarts"] == "1")
    (saved,) = study.events("slow", "saved")
    study.ask_for("slow", n_steps=saved["step"] + 3)
    slurm.wait_until_empty()
    assert study.steps() == {"slow": saved["step"] + 3}
    assert study.events("slow", "start")[1]["step"] == saved["step"]
    figures["time limits met"] += 1
    figures["requeues"] += 1


def test_a_cancelled_job_saves_and_stays_cancelled(study, slurm):
    engine().run(study.root, queue([study.ask_for("cancelled", n_steps=200, save=1)]), None)
    slurm.wait(lambda: study.is_saved("cancelled"))
    task = only_task(slurm)
    slurm.ask("scancel", task)
    slurm.wait_until_empty()
    assert study.events("cancelled", "saved")
    assert slurm.job(task)["JobState"] == "CANCELLED"
    assert slurm.job(task)["Restarts"] == "0"


@pytest.mark.parametrize("code", [1, 2, 74])
def test_a_job_that_another_go_would_not_mend_is_not_requeued(study, slurm, code):
    engine().run(study.root, queue([study.ask_for("broken", exit=code)]), None)
    task = only_task(slurm)
    slurm.wait_until_empty()
    assert len(study.events("broken")) == 1
    job = slurm.job(task)
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("FAILED", f"{code}:0", "0")


@pytest.mark.parametrize("until", [1, 1000])
def test_a_job_that_somebody_owns_is_asked_again_a_few_times(study, slurm, figures, until):
    engine().run(study.root, queue([study.ask_for("owned", exit=3, until=until)]), None)
    slurm.wait_until_empty()
    n_requeues = len(study.events("owned")) - (3 if until == 1 else 1)
    assert len(study.events("owned", "exit 3")) == (1 if until == 1 else 1 + REQUEUE[3])
    assert bool(study.steps()) == (until == 1)
    figures["requeues"] += max(n_requeues, 1)


def test_a_killed_job_is_left_alone_and_submitted_by_the_next_run(study, slurm, figures):
    jobs = [study.ask_for(f"job-{n}", n_steps=60) for n in range(2)]
    engine().run(study.root, queue(jobs), None)
    slurm.wait(lambda: study.is_saved("job-0", 5))
    os.kill(study.events("job-0", "start")[0]["pid"], signal.SIGKILL)
    slurm.wait_until_empty()
    assert study.steps() == {"job-1": 60}
    unfinished = [job for job in jobs if job[0] not in study.steps()]
    engine().run(study.root, queue(unfinished), None)
    slurm.wait_until_empty()
    assert study.steps() == {"job-0": 60, "job-1": 60}
    assert study.events("job-0", "start")[1]["step"] >= 5
    assert len(study.events("job-1", "start")) == 1
    figures["SIGKILLs"] += 1
    figures["resubmissions"] += 1


def test_jobs_of_a_lost_node_are_requeued(study, slurm, figures):
    jobs = [study.ask_for(f"job-{n}", n_steps=40, seconds=0.25) for n in range(2)]
    two_cpus = Resources(n_processes=1, n_cpus=2, n_gpus=0, memory_bytes=2**30, seconds=None)
    engine().run(study.root, queue([(name, two_cpus) for name, _ in jobs]), None)
    slurm.wait(lambda: all(study.is_saved(name, 3) for name, _ in jobs))
    slurm.lose("n1")
    slurm.wait(lambda: sum(row["state"] == "PENDING" for row in slurm.queued()) == 1, hurry=False)
    slurm.bring_back("n1")
    slurm.wait_until_empty()
    assert study.steps() == {name: 40 for name, _ in jobs}
    counts = collections.Counter(len(study.events(name, "start")) for name, _ in jobs)
    assert counts == {1: 1, 2: 1}
    figures["lost nodes"] += 1
    figures["requeues"] += 1


def test_a_run_on_two_nodes_has_one_process_on_each_and_is_requeued_as_one(study, slurm, figures):
    two = Resources(n_processes=2, n_cpus=1, n_gpus=0, memory_bytes=2**30, seconds=None)
    name, _ = study.ask_for("wide", n_steps=20, seconds=0.2)
    engine().run(study.root, queue([(name, two)]), None)
    slurm.wait(lambda: study.is_saved("wide", 2))
    task = only_task(slurm)
    slurm.preempt()
    slurm.wait(lambda: slurm.job(task)["Restarts"] == "1")
    slurm.wait_until_empty()
    assert study.steps() == {"wide": 20}
    for restarts in (0, 1):
        started = [e for e in study.events("wide", "start") if e["restarts"] == restarts]
        assert {(e["process"], e["SLURMD_NODENAME"]) for e in started} == {(0, "n1"), (1, "n2")}
        assert {e["SLURM_NTASKS"] for e in started} == {"2"}
    figures["preemptions by a higher partition"] += 1
    figures["requeues"] += 1
    figures["runs on two nodes"] += 1


def test_what_slurm_refuses_is_one_line(study, slurm):
    with pytest.raises(ValueError, match="invalid partition") as refusal:
        engine(partition="nowhere").run(study.root, queue([study.ask_for("job")]), None)
    assert "\n" not in str(refusal.value)
