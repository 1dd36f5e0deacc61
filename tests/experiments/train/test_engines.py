# SPDX-License-Identifier: Apache-2.0
"""What an engine is told of jobs, and how it is asked for."""

import dataclasses
from pathlib import Path

import pytest

from experiments.executors.batches import batches, trees
from experiments.executors.worker_settings import WorkerSettings
from experiments.machine.jax_setup import cache_folder
from experiments.plan.arrange import arrange
from experiments.plan.jobs import host_memory_bytes
from experiments.plan.plan import plan
from experiments.speed.calibration import Calibration
from experiments.studies import large_7b, large_70b
from experiments.train.engines import Engine, queued_jobs, remote_executor
from model.data.synthetic.zipf import describe

SLURM = Engine(name="slurm")
KUBERNETES = Engine(name="kubernetes", image="a", volume_claim="b")
# Slice, hosts, and GB of memory of each (cloud.google.com/tpu/docs: ct5lp-hightpu-4t, v5e, and
# ct5p-hightpu-4t, v5p).
SLICES = [
    (large_7b.STUDY, "tpu-v5-lite-podslice,16x16,4", 64, 192),
    (large_70b.STUDY, "tpu-v5p-slice,8x8x8,4", 128, 448),
]


def test_a_tree_is_one_item_with_all_of_its_time(branched, manifest):
    points = list(plan(branched, manifest).points)
    planned_jobs = arrange(points, branched.mesh, trunks=True)
    known = Calibration(
        device="abacus",
        flops_per_second={1e8: 1e9},
        peak_flops_per_second=1e10,
        compile_seconds=5.0,
    )
    asked = trees(queued_jobs(planned_jobs, branched.mesh, SLURM, known))
    assert len(asked) == 4, "two sizes, two seeds"
    by_id = {planned_job.job.id: planned_job for planned_job in planned_jobs}
    assert sorted(name for tree in asked for name in tree.ids) == sorted(by_id)
    seconds = []
    for ids, needs in asked:
        for name in ids:
            parent = by_id[name].job.parent
            assert parent is None or ids.index(parent) < ids.index(name)
        seconds.append(needs.seconds)
        flops = sum(by_id[name].flops["matmul_full"] for name in ids)
        assert abs(needs.seconds - flops / 1e9 - 5.0) < 1e-6
    assert seconds == sorted(seconds, reverse=True)


def test_branches_of_trunks_that_are_there_go_their_own_ways(branched, manifest):
    points = list(plan(branched, manifest).points)
    planned_jobs = arrange(points, branched.mesh, trunks=True, has_trunk=lambda name: True)
    asked = trees(queued_jobs(planned_jobs, branched.mesh, SLURM, None))
    # Nothing waits for anything else: each branch may go where it likes.
    assert sorted(tree.ids for tree in asked) == sorted((point.id,) for point in points)


@pytest.mark.parametrize(
    ("engine", "expected"),
    [(SLURM, (4, 1, 0)), (Engine(name="slurm", gpus_per_process=2, cpus_per_process=6), (2, 6, 2))],
)
def test_the_devices_of_the_mesh_are_split_into_processes(points, engine, expected):
    (job, *_) = queued_jobs(arrange(points[:1], (1, 4, 1, 1)), (1, 4, 1, 1), engine, None)
    assert (job.needs.n_processes, job.needs.n_cpus, job.needs.n_gpus) == expected


def test_processes_that_do_not_divide_the_mesh_are_refused(points):
    engine = Engine(name="slurm", gpus_per_process=3)
    with pytest.raises(ValueError, match="--gpus-per-process 3: must divide the 4 devices"):
        queued_jobs(arrange(points[:1], (1, 4, 1, 1)), (1, 4, 1, 1), engine, None)
    with pytest.raises(ValueError, match="--cpus-per-process at least 1"):
        Engine(name="slurm", cpus_per_process=0)


@pytest.mark.parametrize("engine", [SLURM, KUBERNETES])
def test_workers_on_cpus_are_told_how_many_they_have_and_workers_on_gpus_are_not(engine):
    settings = WorkerSettings(mesh=(1, 2, 1, 1))
    assert "--threads" in remote_executor(engine, settings).worker
    worker = remote_executor(dataclasses.replace(engine, gpus_per_process=1), settings).worker
    assert "--threads" not in worker
    assert worker[worker.index("--mesh") + 1] == "1,2,1,1"


@pytest.mark.parametrize(
    ("engine", "folder"), [(SLURM, str(cache_folder())), (KUBERNETES, "/results/.cache/jax")]
)
def test_workers_keep_compiled_programs_where_all_of_them_find_them(engine, folder):
    worker = remote_executor(engine, WorkerSettings()).worker
    assert worker[worker.index("--cache") + 1] == folder


@pytest.mark.parametrize(("study", "slice_of", "n_hosts", "gb"), SLICES)
def test_a_host_of_a_slice_has_the_memory_that_its_pod_asks_for(
    study, slice_of, n_hosts, gb, tmp_path
):
    engine = dataclasses.replace(KUBERNETES, tpu=slice_of)
    points = list(plan(study, describe(study.data)).points)
    jobs = queued_jobs(arrange(points, study.mesh), study.mesh, engine, None)
    executor = remote_executor(engine, WorkerSettings(mesh=study.mesh))
    *_, job = executor.objects(tmp_path, "1", trees(jobs))
    assert job["spec"]["completions"] == n_hosts
    (container,) = job["spec"]["template"]["spec"]["containers"]
    asked = int(container["resources"]["limits"]["memory"].removesuffix("Mi")) * 2**20
    # A checkpoint passes through the hosts: parameters and two moments, 4 bytes each.
    assert 12 * points[0].params.total / n_hosts < asked < 0.25e9 * gb


@pytest.mark.parametrize(
    ("mesh", "n_processes", "share"),
    [
        ((1, 1, 4, 1), 4, 1 / 4),
        ((1, 1, 2, 2), 2, 1 / 2),
        ((1, 2, 2, 1), 4, 1 / 2),
        ((1, 4, 1, 1), 4, 1),
        ((4, 1, 1, 1), 4, 1 / 4),
        ((1, 8, 1, 1), 2, 1),
    ],
)
def test_a_process_needs_memory_for_what_its_devices_hold(points, mesh, n_processes, share):
    params = points[0].params
    larger = dataclasses.replace(points[0], params=dataclasses.replace(params, total=10**9))

    def more(n_processes):
        """Bytes of the parameters that it has more, of four runs."""
        needs = [host_memory_bytes(p, mesh, 4, n_processes) for p in (larger, points[0])]
        return needs[0] - needs[1]

    assert more(n_processes) == pytest.approx(share * more(1))
    n_more = larger.params.total - points[0].params.total
    assert more(1) == pytest.approx(4 * 32 * n_more)


def test_a_node_is_asked_for_the_memory_of_its_process(points):
    mesh, engine = (1, 1, 4, 1), Engine(name="slurm", gpus_per_process=2)
    jobs = queued_jobs(arrange(points[:1], mesh), mesh, engine, None)
    (batch,) = batches(trees(jobs), 9)
    script = remote_executor(engine, WorkerSettings(mesh=mesh))._script(Path(), Path(), batch)
    expected = host_memory_bytes(points[0], mesh, 1, 2, has_accelerators=True)
    assert f"#SBATCH --mem={expected // 2**20}M" in script.splitlines()
    assert "#SBATCH --nodes=2" in script.splitlines()


IMPOSSIBLE = [
    ({"hours": -1.0}, "--hours: only with --on slurm, not with local"),
    ({"gpus_per_process": 2}, "--gpus-per-process: only with --on slurm or kubernetes, not"),
    ({"name": "slurm", "queue": "q"}, "--queue: only with --on kubernetes, not with slurm"),
    ({"name": "kubernetes", "partition": "p"}, "--partition: only with --on slurm, not with kub"),
    ({"name": "slurm", "hours": -1.0}, "--hours -1: must be positive"),
    ({"name": "slurm", "max_concurrent": 0}, "--max-concurrent 0: must be at least 1"),
]


@pytest.mark.parametrize(("told", "words"), IMPOSSIBLE)
def test_options_that_say_nothing_or_cannot_be_are_refused(told, words):
    with pytest.raises(ValueError, match=words):
        Engine(**told)
