# SPDX-License-Identifier: Apache-2.0
"""What an engine is handed: trees whole, parents first, long ones first."""

from types import SimpleNamespace

from experiments.plan.arrange import arrange
from experiments.plan.plan import plan
from experiments.speed.calibration import Calibration
from experiments.train import engines

OPTIONS = SimpleNamespace(gpus_per_process=0, cpus_per_process=1)


def test_a_tree_is_one_item_with_all_of_its_time(branched, manifest, ledger, monkeypatch):
    points = list(plan(branched, manifest).points)
    planned_jobs = arrange(points, branched.mesh, trunks=True)
    asked = []
    executor = SimpleNamespace(submit=lambda root, jobs: asked.extend(jobs) or "submitted")
    monkeypatch.setattr(engines, "_executor", lambda options, study: executor)
    known = Calibration(
        device="abacus",
        flops_per_second={1e8: 1e9},
        peak_flops_per_second=1e10,
        compile_seconds=5.0,
    )
    assert engines.submit(OPTIONS, branched, ledger, planned_jobs, known) == "submitted"
    assert len(asked) == 4, "two sizes, two seeds"
    assert sorted(" ".join(names for names, _ in asked).split()) == sorted(
        planned_job.job.id for planned_job in planned_jobs
    )
    by_id = {planned_job.job.id: planned_job for planned_job in planned_jobs}
    seconds = []
    for names, needs in asked:
        ids = names.split()
        for name in ids:
            parent = by_id[name].job.parent
            assert parent is None or ids.index(parent) < ids.index(name)
        seconds.append(needs.seconds)
        flops = sum(by_id[name].flops["matmul_full"] for name in ids)
        assert abs(needs.seconds - flops / 1e9 - 5.0) < 1e-6
    assert seconds == sorted(seconds, reverse=True)


def test_branches_of_trunks_that_are_there_go_their_own_ways(
    branched, manifest, ledger, monkeypatch
):
    points = list(plan(branched, manifest).points)
    planned_jobs = arrange(points, branched.mesh, trunks=True, has_trunk=lambda name: True)
    asked = []
    executor = SimpleNamespace(submit=lambda root, jobs: asked.extend(jobs) or "")
    monkeypatch.setattr(engines, "_executor", lambda options, study: executor)
    engines.submit(OPTIONS, branched, ledger, planned_jobs, None)
    # Nothing waits for anything else: each branch may go where it likes.
    assert sorted(names for names, _ in asked) == sorted(point.id for point in points)
