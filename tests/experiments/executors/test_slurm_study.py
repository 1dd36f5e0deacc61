# SPDX-License-Identifier: Apache-2.0
"""A real study on a real Slurm, disturbed, against the same study on this machine, left alone."""

import collections
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import environment, isoflop
from small_studies import tiny

from experiments.ledger.ledger import Ledger
from experiments.ledger.result import Result

pytestmark = pytest.mark.slurm

STUDY = tiny("""
    budgets=(4e9, 8e9), seeds=(0,),
    sizes=Ladder(d_models=(8, 16), tokens_per_param=(0.1, 1e5)),
""")


@dataclass(frozen=True)
class Lab:
    """A folder with the study, and isoflop in processes of its own."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.folder / "cache")

    def run(self, results: str, *arguments: str) -> str:
        where = (str(self.folder / "tiny.py"), "--results", str(self.folder / results), "--anyway")
        done = isoflop("run", *where, *arguments, env=self.environment, timeout=540)
        assert done.returncode == 0, done.stderr
        return done.stderr  # What is submitted is told beside the answer.

    def two_processes(self, ledger: Ledger) -> None:
        """Trains a study of two devices here, in two processes."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        jobs = [f"--job={name}" for name in ids(ledger)]
        command = [sys.executable, "-m", "experiments.worker", "--root", str(ledger.folder), *jobs]
        command += ["--threads", "1"]  # One CPU each, as the engine is asked for.
        variables = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
        processes = [
            subprocess.Popen(
                [*command, "--mesh=1,2,1,1"],
                env=self.environment | variables | {"JAX_PROCESS_ID": str(n)},
                stdout=subprocess.DEVNULL,
            )
            for n in range(2)
        ]
        assert [process.wait(500) for process in processes] == [0, 0]

    def ledger(self, results: str) -> Ledger:
        return Ledger(self.folder / results, "tiny")


def ids(ledger: Ledger) -> list[str]:
    return sorted(path.name for path in (ledger.folder / "jobs").iterdir())


def with_checkpoint(ledger: Ledger) -> list[str]:
    return [name for name in ids(ledger) if ledger.job(name).newest_step()]


def results(ledger: Ledger) -> dict[str, Result]:
    found = {name: ledger.read_result(name) for name in ids(ledger)}
    return {name: record for name, record in found.items() if record is not None}


def endings(ledger: Ledger) -> collections.Counter[str]:
    return collections.Counter(
        ending.how for name in ids(ledger) for ending in ledger.job(name).endings().values()
    )


def running_again(ledger: Ledger) -> list[str]:
    """Jobs with a checkpoint that an attempt after the first works on."""
    done = results(ledger)
    return [n for n in with_checkpoint(ledger) if ledger.job(n).newest() > 1 and n not in done]


def test_a_disturbed_study_has_the_bytes_of_an_undisturbed_one(slurm, tmp_path, figures):
    lab = Lab(tmp_path)
    (tmp_path / "tiny.py").write_text(STUDY)
    lab.run("calm", "--workers", "2")
    calm, rough = lab.ledger("calm"), lab.ledger("rough")

    began = time.monotonic()
    asked = ("--on", "slurm", "--partition", "low", "--checkpoint-seconds", "0.05")
    said = lab.run("rough", *asked)
    assert "4 jobs: Slurm array" in said
    slurm.wait(lambda: with_checkpoint(rough))
    slurm.preempt()
    slurm.wait(lambda: endings(rough)["preempted"])
    assert "are in the queue already" in lab.run("rough", *asked)

    slurm.wait(lambda: running_again(rough))
    victim = rough.job(running_again(rough)[0])
    os.kill(victim.owner(victim.newest()).pid, signal.SIGKILL)
    slurm.wait_until_empty()
    assert len(results(rough)) == 3, "Slurm does not start again what was killed"

    assert "1 jobs: Slurm array" in lab.run("rough", *asked)
    slurm.wait_until_empty()
    seconds = time.monotonic() - began
    lab.run("rough", *asked)

    assert rough.table.read_bytes() == calm.table.read_bytes()
    assert rough.curves.read_bytes() == calm.curves.read_bytes()
    hashes = {name: record.params_sha256 for name, record in results(calm).items()}
    assert {name: record.params_sha256 for name, record in results(rough).items()} == hashes
    ended = endings(rough)
    assert ended["killed"] == 1
    resumed = [n for n, record in results(rough).items() if record.costs.resumed_at]
    assert resumed
    figures["runs of a real study, bits equal to local"] += len(hashes)
    figures["its preempted attempts"] += ended["preempted"]
    figures["its SIGKILLs after a checkpoint"] += 1
    figures["its resumed runs"] += len(resumed)
    figures["its seconds on Slurm"] += round(seconds)


def test_a_disturbed_study_on_two_nodes_has_the_bits_of_two_processes_here(
    slurm, tmp_path, figures
):
    lab = Lab(tmp_path)
    (tmp_path / "tiny.py").write_text(STUDY)
    wide = ("mesh=1,2,1,1", "budgets=1e9")
    # Plans, and starts nothing.
    lab.run("calm", *wide, "--on", "kubernetes", "--image", "none", "--volume-claim", "none")
    calm, rough = lab.ledger("calm"), lab.ledger("rough")
    lab.two_processes(calm)

    # Both nodes are this machine, and their names do not resolve.
    address = "export JAX_COORDINATOR_ADDRESS=127.0.0.1:$((20000 + SLURM_JOB_ID))"
    asked = (*wide, "--on", "slurm", "--partition", "low", "--setup", address)
    asked += ("--checkpoint-seconds", "0.05")
    lab.run("rough", *asked)
    slurm.wait(lambda: with_checkpoint(rough), 300)
    slurm.preempt()
    slurm.wait(lambda: running_again(rough), 300)
    victim = running_again(rough)[0]
    owner = rough.job(victim).owner(rough.job(victim).newest())
    array, task = owner.engine_job.split("_")
    # The process that does not own the claim; the other one ends for want of it.
    follower = {"SLURM_PROCID": "1", "SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": task}
    for pid in slurm.pids(**follower):
        os.kill(pid, signal.SIGKILL)
    slurm.wait_until_empty()
    assert victim not in results(rough)
    lab.run("rough", *asked)
    slurm.wait_until_empty()

    assert len(results(calm)) == 2
    for name, record in results(calm).items():
        found = results(rough)[name]
        assert found.loss_nats == record.loss_nats
        assert found.params_sha256 == record.params_sha256
    assert endings(rough)["preempted"] >= 1
    assert results(rough)[victim].costs.resumed_at > 0
    figures["runs of a real study on two nodes, bits equal to two local processes"] += 2
    figures["their preempted attempts"] += endings(rough)["preempted"]
    figures["their SIGKILLs of the process that owns no claim"] += 1
