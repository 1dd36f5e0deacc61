# SPDX-License-Identifier: Apache-2.0
"""One suite for every executor: nothing lost, nothing done twice, whatever happens to jobs.

Here Slurm and Kubernetes are played by a few lines that do with scripts and manifests what those
do; test_slurm_cluster.py has a real Slurm.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RUN = (sys.executable, str(Path(__file__).with_name("run_executor.py")))
# sbatch kills who asks it, where a file says so: half of what was asked for is in the queue then.
SLURM = {
    "sbatch": "if [ -e {folder}/die ] && [ -e {folder}/asked ]; then kill -9 $PPID; fi\n"
    "touch {folder}/asked; echo 17",
    "scontrol": 'case $1 in show) echo "MaxArraySize = 2";; *) touch {folder}/requeue;; esac',
    "squeue": 'case "$*" in *--jobs*) echo RUNNING;; esac',
    "srun": 'while [ "${{1#--}}" != "$1" ]; do shift; done; exec "$@"',
}


class Engine:
    """A folder of jobs, an executor that is given them, and what stands behind it."""

    def __init__(self, folder: Path, monkeypatch):
        self.root = folder / "study"
        for name in ("jobs", "runs", "checkpoints"):
            (self.root / name).mkdir(parents=True)

    def ask_for(self, name: str, flops: float = 1.0, after: str = "", **job) -> str:
        """A job, as a line for the runner."""
        job = {"n_steps": 2, "seconds": 0.01} | job
        (self.root / "jobs" / f"{name}.json").write_text(json.dumps(job))
        return f"{name} {flops} {after}\n"

    def start(self, lines: list[str]) -> subprocess.Popen:
        """A runner that hands over the jobs without a result."""
        left = [line for line in lines if not (self.root / "runs" / line.split()[0]).exists()]
        runner = subprocess.Popen(
            [*RUN, self.name, str(self.root)], stdin=subprocess.PIPE, text=True
        )
        runner.stdin.write("".join(left))
        runner.stdin.close()
        return runner

    def run(self, lines: list[str]) -> None:
        """As `isoflop run` does it, and until what it started has ended."""
        assert self.start(lines).wait(60) == 0
        self.schedule()

    def schedule(self) -> None:
        """What the engine does by itself."""

    def kill_runner(self, lines: list[str]) -> None:
        """A runner that ends in the middle of its work."""

    def events(self, name: str, event: str) -> list[dict]:
        path = self.root / "events.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [row for row in rows if row["id"] == name and row["event"] == event]

    def done(self) -> list[str]:
        return sorted(path.name for path in (self.root / "runs").iterdir())


class OnThisMachine(Engine):
    name = "local"

    def kill_runner(self, lines):
        runner = self.start(lines)
        while not list((self.root / "checkpoints").iterdir()):
            assert runner.poll() is None
            time.sleep(0.01)
        runner.send_signal(signal.SIGKILL)
        runner.wait()
        started = {row["pid"] for line in lines for row in self.events(line.split()[0], "start")}
        end = time.monotonic() + 60
        while any(Path(f"/proc/{pid}").exists() for pid in started):
            assert time.monotonic() < end, "workers outlive their runner"
            time.sleep(0.01)


class OnSlurm(Engine):
    name = "slurm"

    def __init__(self, folder, monkeypatch):
        super().__init__(folder, monkeypatch)
        self.bin, self.n_ran = folder / "bin", 0
        self.bin.mkdir()
        for name, text in SLURM.items():
            path = self.bin / name
            path.write_text(f"#!/bin/bash\n{text.format(folder=self.bin)}\n")
            path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{self.bin}:{os.environ['PATH']}")

    def schedule(self):
        scripts = sorted(self.root.glob("slurm/*/script.sh"))
        for script in scripts[self.n_ran :]:
            n_tasks = int(re.search(r"--array=0-(\d+)", script.read_text())[1]) + 1
            for task in range(n_tasks):
                self._task(script, task)
        self.n_ran = len(scripts)

    def _task(self, script, task):
        ids = {"SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": str(task)}
        for restarts in range(10):
            variables = ids | {"SLURM_RESTART_COUNT": str(restarts)}
            subprocess.run(
                ["bash", str(script)], env=os.environ | variables, stdout=subprocess.DEVNULL
            )
            if not (self.bin / "requeue").exists():
                return
            (self.bin / "requeue").unlink()

    def kill_runner(self, lines):
        (self.bin / "die").touch()
        assert self.start(lines).wait(60) == -signal.SIGKILL
        (self.bin / "die").unlink()
        # Its last array was written down and never asked for.
        lost = sorted(self.root.glob("slurm/*/script.sh"))[-1]
        lost.unlink()
        self.schedule()
        assert 0 < len(self.done()) < len(lines)


class OnKubernetes(Engine):
    name = "kubernetes"
    n_ran = 0

    def schedule(self, most: int | None = None):
        manifests = sorted(self.root.glob("kubernetes/*/manifest.json"))
        for manifest in manifests[self.n_ran :]:
            items = json.loads(manifest.read_text())["items"]
            ids = {i["metadata"]["name"]: i["data"] for i in items if i["kind"] == "ConfigMap"}
            for job in [item for item in items if item["kind"] == "Job"]:
                for index in range(job["spec"]["completions"])[:most]:
                    self._index(job, ids[job["metadata"]["name"]], index)
        self.n_ran = len(manifests)

    def _index(self, job, ids, index):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        file = self.root / "ids"
        file.write_text(ids[str(index)])
        ours = {"/results/study": str(self.root), "/etc/isoflop/jobs/$(ISOFLOP_INDEX)": str(file)}
        n_failures = 0
        while n_failures <= job["spec"]["backoffLimitPerIndex"]:
            command = [ours.get(word, word) for word in container["command"]]
            code = subprocess.run(command).returncode
            rules = job["spec"]["podFailurePolicy"]["rules"]
            codes = [(r["onExitCodes"]["values"], r["action"]) for r in rules if "onExitCodes" in r]
            # The first rule that fits decides.
            action = next((action for values, action in codes if code in values), "Count")
            if code == 0 or action == "FailIndex":
                return
            n_failures += action == "Count"

    def kill_runner(self, lines):
        """It submits nothing: what can stop half-way is the start of what it wrote."""
        assert self.start(lines).wait(60) == 0
        self.schedule(most=2)
        assert len(self.done()) == 2


@pytest.fixture(params=[OnThisMachine, OnSlurm, OnKubernetes], ids=lambda engine: engine.name)
def engine(request, tmp_path, monkeypatch):
    return request.param(tmp_path, monkeypatch)


def test_every_job_is_done_once_and_after_the_one_that_it_begins_from(engine):
    lines = [engine.ask_for("trunk", 2.0), engine.ask_for("branch", 9.0, "trunk")]
    lines += [engine.ask_for(f"job-{n}", n) for n in range(3)]
    engine.run(lines)
    names = sorted(line.split()[0] for line in lines)
    assert engine.done() == names
    for name in names:
        assert len(engine.events(name, "start")) == 1
    (trunk,), (branch,) = engine.events("trunk", "done"), engine.events("branch", "start")
    assert trunk["time"] <= branch["time"]
    engine.run(lines)
    assert all(len(engine.events(name, "start")) == 1 for name in names), "nothing is left to do"


def test_a_job_that_fails_keeps_no_other_from_being_done_and_may_be_mended(engine):
    lines = [engine.ask_for("bad", 9.0, exit=1), *(engine.ask_for(f"job-{n}") for n in range(3))]
    engine.run(lines)
    assert engine.done() == ["job-0", "job-1", "job-2"]
    assert 1 <= len(engine.events("bad", "exit 1")) <= 4
    engine.ask_for("bad")
    engine.run(lines)
    assert engine.done() == ["bad", "job-0", "job-1", "job-2"]
    assert all(len(engine.events(f"job-{n}", "start")) == 1 for n in range(3))


def test_a_preempted_job_goes_on_where_it_was(engine):
    """More often than it may fail."""
    job = engine.ask_for("preempted", 9.0, n_steps=7, preempted_at=[1, 2, 4, 5, 6])
    engine.run([job, engine.ask_for("other")])
    assert engine.done() == ["other", "preempted"]
    assert [row["step"] for row in engine.events("preempted", "start")] == [0, 1, 2, 4, 5, 6]


def test_after_its_runner_was_killed_half_way_the_rest_is_done_once(engine):
    lines = [engine.ask_for(f"job-{n}", n_steps=20, seconds=0.02) for n in range(4)]
    engine.kill_runner(lines)
    engine.run(lines)
    assert engine.done() == ["job-0", "job-1", "job-2", "job-3"]
    for name in engine.done():
        assert len(engine.events(name, "done")) == 1
        starts = [row["step"] for row in engine.events(name, "start")]
        assert starts == sorted(starts), "what was saved is not done again"
        assert len(starts) <= 2
