# SPDX-License-Identifier: Apache-2.0
"""The array script under bash, with Slurm's commands replaced; not so in test_slurm_cluster.py."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from experiments.executors.base import QueuedJob, Resources
from experiments.executors.slurm import Slurm, job_name, queued

ONE = Resources(n_processes=1, n_cpus=3, n_gpus=0, memory_bytes=3 * 2**30, seconds=None)

# Each says what it was asked on a line of a log; srun becomes what it is told to run.
COMMANDS = {
    "scontrol": 'case $1 in show) echo "MaxArraySize    = 4";; *) echo "$@" >> {log};; esac',
    "sbatch": 'echo "sbatch $SLURM_MEM_PER_CPU$SLURM_CONF" >> {log}; echo "17;cluster"',
    "squeue": 'case "$*" in *--jobs*) echo $STATE;; *) cat {folder}/queue 2>/dev/null;; esac',
    "srun": 'while [ "${{1#--}}" != "$1" ]; do echo "srun $1" >> {log}; shift; done; exec "$@"',
}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder of stand-ins for Slurm's commands, first on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in COMMANDS.items():
        text = text.format(log=folder / "log", folder=folder)
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def asked(slurm) -> list[str]:
    return (slurm / "log").read_text().splitlines() if (slurm / "log").exists() else []


def worker(code: int) -> tuple[str, ...]:
    """One that shows its arguments and ends."""
    return sys.executable, "-c", f"import sys; print(sys.argv[1:]); sys.exit({code})"


def run_task(script, task: int, *, state: str = "RUNNING", restarts: str = "") -> tuple[int, str]:
    """As Slurm runs a task of the array: exit code and log."""
    variables = {"SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": str(task), "STATE": state}
    if restarts:
        variables["SLURM_RESTART_COUNT"] = restarts
    done = subprocess.run(
        ["bash", str(script)], env=os.environ | variables, capture_output=True, text=True
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def queue(jobs):
    """Jobs of ids and needs, none before another."""
    return [QueuedJob(id=name, needs=needs, flops=1.0) for name, needs in jobs]


def submitted(root, jobs, **options):
    """The scripts of the arrays."""
    known = sorted(root.glob("slurm/*"))
    Slurm(**options).run(root, queue(jobs), None)
    return [folder / "script.sh" for folder in sorted(root.glob("slurm/*")) if folder not in known]


def directives(script) -> list[str]:
    lines = script.read_text().splitlines()
    return [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]


def test_a_task_works_on_the_ids_of_its_line(slurm, tmp_path):
    root = tmp_path / "it's 50%a *" / "study"
    (script,) = submitted(root, [("a-1", ONE), ("b-2", ONE)], worker=worker(0))
    for task, name in enumerate(("a-1", "b-2")):
        assert run_task(script, task) == (0, f"{['--root', str(root), f'--job={name}']}\n")
    assert "srun --cpus-per-task=3" in asked(slurm), "a step does not inherit it"
    (log,) = [line for line in directives(script) if line.startswith("--output")]
    assert log.count("50%%a") == 1, "%a is the number of the task"


def test_short_jobs_share_a_task(slurm, tmp_path):
    short = replace(ONE, seconds=100.0)
    jobs = [(f"short-{n}", short) for n in range(8)]
    (script,) = submitted(tmp_path / "study", jobs, worker=worker(0))
    _, log = run_task(script, 0)
    assert log.count("--job=") == 6
    assert "--array=0-1" in directives(script)
    assert "--time=20" in directives(script)


@pytest.mark.parametrize(
    ("code", "state", "restarts", "is_requeued"),
    [
        (75, "RUNNING", "", True),
        (75, "RUNNING", "99", True),
        (75, "RUNNING", "100", False),
        (75, "COMPLETING", "", False),
        (3, "RUNNING", "", True),
        (3, "RUNNING", "3", False),
        (0, "RUNNING", "", False),
        (1, "RUNNING", "", False),
        (2, "RUNNING", "", False),
        (74, "RUNNING", "", False),
        (137, "RUNNING", "", False),
    ],
)
def test_the_exit_code_decides_about_another_go(
    slurm, tmp_path, code, state, restarts, is_requeued
):
    (script,) = submitted(tmp_path / "study", [("job", ONE)], worker=worker(code))
    assert run_task(script, 0, state=state, restarts=restarts)[0] == code
    assert ("requeue 17_0" in asked(slurm)) == is_requeued


def test_the_script_outlives_the_signal_that_its_worker_gets(slurm, tmp_path):
    slow = "import time; print('started', flush=True); time.sleep(1); raise SystemExit(75)"
    command = (sys.executable, "-c", slow)
    (script,) = submitted(tmp_path / "study", [("job", ONE)], worker=command)
    variables = {"SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "0", "STATE": "RUNNING"}
    process = subprocess.Popen(
        ["bash", str(script)], env=os.environ | variables, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert "requeue 17_0" in asked(slurm)


def test_what_a_job_needs_and_what_the_user_wants_become_options(slurm, tmp_path):
    (script,) = submitted(
        tmp_path / "study",
        [("job", replace(ONE, n_gpus=2, seconds=7200.0))],
        partition="a100",
        account="lab",
        qos="long",
        time_limit_seconds=3630.0,
        max_concurrent=8,
        options=("--constraint=a b", "--exclusive"),
        setup="export GREETING='hello world'",
        worker=("echo",),
    )
    expected = {
        "--array=0-0%8",
        f"--output={script.parent}/%a.log",
        "--open-mode=append",
        "--requeue",
        "--signal=USR1@120",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=3",
        "--mem=3072M",
        "--gres=gpu:2",
        "--time=61",
        "--partition=a100",
        "--account=lab",
        "--qos=long",
        "--constraint='a b'",
        "--exclusive",
    }
    assert expected <= set(directives(script))
    assert "\nexport GREETING='hello world'\n" in script.read_text()


def test_processes_that_work_together_get_a_node_each(slurm, tmp_path):
    (script,) = submitted(
        tmp_path / "study", [("job", replace(ONE, n_processes=4))], worker=worker(0)
    )
    assert {"--nodes=4", "--ntasks=4", "--ntasks-per-node=1"} <= set(directives(script))
    assert not [line for line in directives(script) if line.startswith("--time")]
    run_task(script, 0)
    assert "srun --wait=60" in asked(slurm)


def test_arrays_are_split_at_the_size_that_slurm_allows(slurm, tmp_path):
    scripts = submitted(tmp_path / "study", [(f"job-{n}", ONE) for n in range(9)])
    found = [line for s in scripts for line in directives(s) if line.startswith("--array")]
    assert found == ["--array=0-3", "--array=0-3", "--array=0-0"]


def test_what_is_in_the_queue_is_not_submitted(slurm, tmp_path):
    jobs = [(f"job-{n}", ONE) for n in range(3)]
    engine, root = Slurm(), tmp_path / "study"
    engine.run(root, queue(jobs), None)
    (folder,) = root.glob("slurm/*")
    name = job_name(root, folder)
    (slurm / "queue").write_text(f"2 {name}\n0 {name}\n")
    assert queued(root) == {"job-0", "job-2"}
    assert engine.run(root, queue(jobs), None).startswith(
        "2 jobs are in the queue already.\n1 jobs: "
    )
    assert (root / "slurm" / "000002" / "tasks.txt").read_text() == "job-1\n"
    assert queued(tmp_path / "other") == set()


def test_an_allocation_that_we_are_in_does_not_leak(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "leak")
    monkeypatch.setenv("SLURM_CONF", "kept")
    submitted(tmp_path / "study", [("job", ONE)])
    assert "sbatch kept" in asked(slurm)


def test_refusals_are_one_line(slurm, tmp_path, monkeypatch):
    (slurm / "sbatch").write_text("#!/bin/sh\nprintf 'sbatch: no\\nsbatch: never\\n' >&2; exit 1\n")
    with pytest.raises(ValueError, match=r"^sbatch: no sbatch: never\. Nothing more"):
        Slurm().run(tmp_path / "study", queue([("job", ONE)]), None)
    with pytest.raises(ValueError, match="backslash"):
        Slurm().run(tmp_path / "a\\b", queue([("job", ONE)]), None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="no scontrol here"):
        Slurm().run(tmp_path / "elsewhere", queue([("job", ONE)]), None)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"time_limit_seconds": 60.0}, "time_limit_seconds=60.0: must be at least 360"),
        ({"time_limit_seconds": float("nan")}, "time_limit_seconds=nan"),
        ({"max_concurrent": 0}, "max_concurrent=0"),
        ({"partition": "a\nrm"}, "one line"),
        ({"options": ("--a\n--b",)}, "one line"),
    ],
)
def test_bad_options_are_named(options, what):
    with pytest.raises(ValueError, match=what):
        Slurm(**options)
