# SPDX-License-Identifier: Apache-2.0
"""A real study on a real Slurm, disturbed, against the same study on this machine, left alone."""

import collections
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments.ledger import Ledger

pytestmark = pytest.mark.slurm

STUDY = """
from dataclasses import replace
from experiments.recipes import TINY_BYTES
from experiments.study import BatchRule, Ladder, Study
from model.data.source import Zipf
from model.training.config import EvalConfig
batch = BatchRule(reference_tokens=256.0, reference_run=1e4, exponent=0.0, multiple=1)
STUDY = Study(
    name="tiny", question="Does it go on?", budgets=(4e9, 8e9),
    sizes=Ladder(d_models=(8, 16), tokens_per_param=(0.1, 1e5)), seeds=(0,),
    data=Zipf(alpha=0.5, epsilon=0.1, base=8, n_digits=2, n_answers=1, language_seed=0),
    seq_len=16, evaluation=EvalConfig(n_tokens=512, curve_tokens=256, n_points=3, seed=0),
    max_epochs=1.0, flops="matmul_full", recipe=replace(TINY_BYTES, batch=batch),
)
"""
# What a local worker of one core runs with.
XLA_FLAGS = "--xla_backend_optimization_level=1 --xla_cpu_multi_thread_eigen=false"


@dataclass(frozen=True)
class Lab:
    """A folder with the study, and isoflop in processes of its own."""

    folder: Path

    def run(self, results: str, *arguments: str, **environment: str) -> str:
        command = [sys.executable, "-m", "experiments.cli", "run", str(self.folder / "tiny.py")]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("JAX_NUMPY")}
        cache = {"JAX_COMPILATION_CACHE_DIR": str(self.folder / "cache")}
        done = subprocess.run(
            [*command, "--results", str(self.folder / results), *arguments],
            env=inherited | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""} | cache | environment,
            capture_output=True,
            text=True,
            timeout=540,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ledger(self, results: str) -> Ledger:
        return Ledger(self.folder / results, "tiny")


def ids(ledger: Ledger) -> list[str]:
    return sorted(path.name for path in (ledger.folder / "jobs").iterdir())


def with_checkpoint(ledger: Ledger) -> list[str]:
    return [name for name in ids(ledger) if ledger.job(name).newest_step()]


def results(ledger: Ledger) -> dict[str, dict]:
    found = {name: ledger.read_result(name) for name in ids(ledger)}
    return {name: record for name, record in found.items() if record is not None}


def endings(ledger: Ledger) -> collections.Counter[str]:
    return collections.Counter(
        ending.how for name in ids(ledger) for ending in ledger.job(name).endings().values()
    )


def test_a_disturbed_study_has_the_bytes_of_an_undisturbed_one(slurm, tmp_path, figures):
    lab = Lab(tmp_path)
    (tmp_path / "tiny.py").write_text(STUDY)
    lab.run("calm", "--workers", "2")
    calm, rough = lab.ledger("calm"), lab.ledger("rough")

    began = time.monotonic()
    asked = ("--on", "slurm", "--partition", "low", "--checkpoint-seconds", "0.05")
    said = lab.run("rough", *asked, XLA_FLAGS=XLA_FLAGS)
    assert "4 jobs: Slurm array" in said
    slurm.wait(lambda: with_checkpoint(rough))
    slurm.ask("sbatch", "--partition=high", "--nodes=2", "--ntasks=2", "--cpus-per-task=2",
              "--mem=512M", "--output=/dev/null", "--wrap=sleep 1")  # fmt: skip
    slurm.wait(lambda: endings(rough)["preempted"])
    assert "are in the queue already" in lab.run("rough", *asked, XLA_FLAGS=XLA_FLAGS)

    def running() -> list[str]:
        """Jobs of which a worker of the second round has a checkpoint."""
        return [n for n in with_checkpoint(rough) if rough.job(n).newest() > 1 and n not in done()]

    def done() -> list[str]:
        return list(results(rough))

    slurm.wait(running)
    victim = rough.job(running()[0])
    os.kill(victim.owner(victim.newest()).pid, signal.SIGKILL)
    slurm.wait_until_empty()
    assert len(results(rough)) == 3, "Slurm does not start again what was killed"

    assert "1 jobs: Slurm array" in lab.run("rough", *asked, XLA_FLAGS=XLA_FLAGS)
    slurm.wait_until_empty()
    seconds = time.monotonic() - began
    lab.run("rough", *asked, XLA_FLAGS=XLA_FLAGS)

    assert rough.table.read_bytes() == calm.table.read_bytes()
    assert rough.curves.read_bytes() == calm.curves.read_bytes()
    hashes = {name: record["params_sha256"] for name, record in results(calm).items()}
    assert {name: record["params_sha256"] for name, record in results(rough).items()} == hashes
    ended = endings(rough)
    assert ended["killed"] == 1
    resumed = [n for n, record in results(rough).items() if record["costs"]["resumed_at"]]
    assert resumed
    figures["runs of a real study, bits equal to local"] += len(hashes)
    figures["its preempted attempts"] += ended["preempted"]
    figures["its SIGKILLs after a checkpoint"] += 1
    figures["its resumed runs"] += len(resumed)
    figures["its seconds on Slurm"] += round(seconds)
