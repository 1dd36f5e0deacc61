# SPDX-License-Identifier: Apache-2.0
"""What the ledger costs per run: two hundred runs with a trainer that returns at once."""

import time
from dataclasses import replace

import faulty_run
import pytest

from experiments.ledger.ledger import Ledger
from experiments.ledger.owner import this_process
from experiments.plan.point import spec_id
from experiments.train import attempt


@pytest.mark.chaos
def test_hundreds_of_runs_go_from_the_plan_to_the_table(
    tmp_path, points, manifest, monkeypatch, record_property
):
    monkeypatch.setattr(attempt, "device_facts", lambda: faulty_run.FACTS)
    monkeypatch.setattr(faulty_run.FileCheckpoints, "save", lambda *_: None)
    many = []
    for seed in range(200):
        spec = replace(points[0].spec, train=replace(points[0].spec.train, init_seed=seed))
        many.append(replace(points[0], spec=spec, id=spec_id(spec)))
    ledger = Ledger(tmp_path, "many")
    began = time.perf_counter()
    code, said = faulty_run.run(ledger, many, manifest, this_process({}))
    seconds = time.perf_counter() - began
    assert code == 0, said[-2000:]
    assert len(ledger.table.read_text().splitlines()) == 1 + len(many)
    record_property("runs_of_a_trainer_that_returns_at_once", len(many))
    record_property(
        "milliseconds_per_run_of_ledger_and_worker", round(1e3 * seconds / len(many), 2)
    )
