# SPDX-License-Identifier: Apache-2.0
"""Two processes that train one job, as an engine starts them on two hosts."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from experiments.ledger.ledger import Ledger
from experiments.plan.jobs import alone
from experiments.plan.plan import plan
from experiments.plan.point import to_json
from experiments.recipes.tiny_bytes import TINY_BYTES
from experiments.study.recipe import BatchRule
from experiments.study.study import Ladder, Study
from model.data.prepare import prepare
from model.data.source import Zipf
from model.training.config import EvalConfig

MESH = (1, 2, 1, 1)


@pytest.fixture
def tiny(tmp_path) -> Ledger:
    """A study of one run, ready to be trained."""
    batch = BatchRule(reference_tokens=256.0, reference_run=1e4, exponent=0.0, multiple=2)
    study = Study(
        name="tiny",
        question="Do two hosts agree?",
        budgets=(1e9,),
        sizes=Ladder(d_models=(8,), tokens_per_param=(0.1, 1e4)),
        seeds=(0,),
        data=Zipf(alpha=0.5, epsilon=0.1, base=8, n_digits=2, n_answers=1, language_seed=0),
        seq_len=16,
        evaluation=EvalConfig(n_tokens=512, curve_tokens=256, n_points=3, seed=0),
        max_epochs=1.0,
        flops="matmul_full",
        recipe=dataclasses.replace(TINY_BYTES, batch=batch),
        mesh=MESH,
    )
    ledger = Ledger(tmp_path, "tiny")
    ledger.data.mkdir(parents=True)
    manifest = prepare(study.data, ledger.data)
    manifest.write(ledger.manifest)
    points = list(plan(study, manifest).points)
    ledger.write_plan(to_json(study), points, [alone(point).job for point in points])
    return ledger


def start(ledger: Ledger, cache, n_processes: int) -> list[subprocess.Popen]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (point,) = ledger.read_plan()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    flags = f"--xla_force_host_platform_device_count={2 // n_processes}"
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "experiments.worker", "--root", str(ledger.folder)),
                *("--job", point.id, "--mesh", "1,2,1,1", "--checkpoint-seconds", "0.01"),
                *("--cache", str(cache)),
            ],
            env=clean
            | {
                "JAX_PLATFORMS": "cpu",
                "XLA_FLAGS": flags,
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": str(n_processes),
                "JAX_PROCESS_ID": str(i),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(n_processes)
    ]


def wait(processes) -> list[int]:
    codes = []
    for process in processes:
        _, err = process.communicate(timeout=240)
        codes.append(process.returncode)
        assert process.returncode in (0, 75), err
    return codes


@pytest.mark.slow(
    reason="30 s: two hosts, twice; test_processes.py trains on two in the quick suite"
)
def test_two_hosts_stop_together_resume_and_agree_with_one(tiny, tmp_path, compile_cache):
    (point,) = tiny.read_plan()
    processes = start(tiny, compile_cache, 2)
    while not list(tiny.checkpoints(point.id).glob("*.sha256")):
        assert processes[0].poll() is None, processes[0].communicate()
        time.sleep(0.01)
    for process in processes:  # As srun does: every task is told.
        process.send_signal(signal.SIGTERM)
    assert wait(processes) == [75, 0], "process 0 says how it ended"
    assert tiny.read_result(point.id) is None
    assert tiny.job(point.id).ending(1).how == "preempted"
    assert wait(start(tiny, compile_cache, 2)) == [0, 0]
    together = tiny.read_result(point.id)
    assert together.provenance.n_processes == 2
    assert together.provenance.resumed_at_steps[1] > 0

    alone = Ledger(tmp_path / "alone", "tiny")
    alone.folder.parent.mkdir()
    (tmp_path / "tiny").rename(alone.folder)
    (alone.folder / "runs" / point.id / "result.json").unlink()
    assert wait(start(alone, compile_cache, 1)) == [0]
    record = alone.read_result(point.id)
    assert record.provenance.n_processes == 1
    # Sums of gradients are taken in another order: 1e-6 per step, grown over a few hundred steps.
    assert record.loss_nats == pytest.approx(together.loss_nats, abs=2e-3)
