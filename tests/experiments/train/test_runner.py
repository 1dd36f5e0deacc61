# SPDX-License-Identifier: Apache-2.0
"""The runner with a stand-in worker that speaks the same lines and trains nothing."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import jax
import msgspec
import pytest

from experiments.executors import local, local_devices
from experiments.executors.local import DiskError, Local
from experiments.executors.local_devices import Place, worker_places
from experiments.executors.local_idle import IdleWorkers
from experiments.executors.worker_settings import MAX_ATTEMPTS, WorkerSettings
from experiments.ledger.ledger import missing_points
from experiments.ledger.owner import this_process
from experiments.machine.jax_setup import prepare_to_fit
from experiments.plan.arrange import arrange
from experiments.plan.jobs import trunk_id
from experiments.plan.plan import plan
from experiments.plan.trunks import grow
from experiments.terminal.consoles import PipeClosed
from experiments.train.engines import Engine, queued_jobs
from experiments.train.runner import run_planned_jobs

STAND_IN = """
import json, os, sys, time
from pathlib import Path
import msgspec
from experiments.ledger.ledger import Ledger
from experiments.ledger.result import Result
arguments = dict(zip(sys.argv[2::2], sys.argv[3::2]))
root = Path(arguments["--root"])
ledger = Ledger(root.parent, root.name)
behaviour, text = json.loads(Path(sys.argv[1]).read_text())
result = msgspec.json.decode(text, type=Result)
(ledger.folder / f"{os.getpid()}.pid").write_text("")
def say(**event):
    print(json.dumps({"id": name} | event), flush=True)
for line in sys.stdin:
    name = line.strip()
    with (ledger.folder / "order.txt").open("a") as file:
        file.write(f"{os.getpid()} {name}\\n")
    how = behaviour.get(name, behaviour.get("*", "done"))
    log = ledger.folder / f"{name}.tries"
    log.write_text(log.read_text() + "x" if log.exists() else "x")
    if how == "hang":
        time.sleep(60)
    if how == "garbage":
        print("[1, 2]\\nTraceback of a library\\n\\n3", flush=True)
    if how == "refused":
        say(event="refused", reason="mesh does not fit.")
        sys.exit(2)
    if how == "preempted" and len(log.read_text()) < 3:
        say(event="preempted", id=name)
        sys.exit(75)
    if how == "compiling" and len(log.read_text()) < 3:
        sys.exit(75)
    if how == "owned" and len(log.read_text()) < 3:
        say(event="owned", id=name, reason="process 1 on moon has it")
        continue
    if how == "gave up":
        say(event="gave up", id=name, reason="failed 3 times")
        continue
    if how == "failed" and len(log.read_text()) < 2:
        say(event="failed", id=name, reason="out of memory")
        continue
    if how == "disk":
        say(event="disk", reason="cannot write here.")
        sys.exit(74)
    if how == "crash" or (how == "crash once" and len(log.read_text()) == 1):
        print("out of luck [/today]", file=sys.stderr)
        sys.exit(9)
    if how == "unknown flag":
        print("F1129 parse_flags.cc:234] Unknown flag in XLA_FLAGS: --xla_typo=1", file=sys.stderr)
        sys.exit(1)
    if how == "crash after its result":
        ledger.write_result(name, result)
        sys.exit(9)
    numbers = {"resumed_at": 0, "n_tokens": 8, "train_seconds": 0.5, "loss_nats": 2.5}
    say(event="progress", step=1, **numbers)
    if not name.startswith("trunk-"):
        ledger.write_result(name, result)
    say(event="done", id=name, runs=[{"status": "ok", "reason": "", "notes": []}])
"""


class Seen:
    """A display that remembers."""

    def __init__(self):
        self.finished, self.attempts, self.others = [], [], []
        self.on_progress = lambda: None

    def progress(self, slot, planned_job, event):
        self.on_progress()

    def done(self, slot, planned_job, runs):
        self.finished.append(planned_job.job.id)

    def failed(self, slot, planned_job, reason, attempt):
        self.attempts.append((planned_job.job.id, attempt, reason))

    def elsewhere(self, planned_job, reason):
        self.others.append((planned_job.job.id, reason))


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture
def run(tmp_path, ledger, points, seen, record):
    """Runs the points with stand-ins that behave as told: point id -> what it does."""

    def go(behaviour, *, n_workers=1, chosen=points, trunks=False, idle=None):
        script, orders = tmp_path / "stand_in.py", tmp_path / "behaviour.json"
        script.write_text(STAND_IN)
        result = msgspec.json.encode(record()).decode()
        orders.write_text(json.dumps([behaviour, result]))
        ledger.write_plan("{}", list(chosen))
        local_executor = Local(
            places=(Place(),) * n_workers,
            settings=WorkerSettings(),
            program=(sys.executable, str(script), str(orders)),
            idle=idle,
        )
        missing = {point.id for point in missing_points(ledger, chosen)}
        planned_jobs = arrange(chosen, (1, 1, 1, 1), wanted=missing, trunks=trunks)
        jobs = queued_jobs(planned_jobs, (1, 1, 1, 1), Engine(), None)
        return run_planned_jobs(
            ledger, planned_jobs, jobs, local_executor, seen, max_attempts=MAX_ATTEMPTS
        )

    return go


def pids(ledger):
    return {int(path.stem) for path in ledger.folder.glob("*.pid")}


def order(ledger):
    lines = (ledger.folder / "order.txt").read_text().split("\n")[:-1]
    return [tuple(line.split()) for line in lines]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def program(point):
    return (point.spec.model, point.spec.train.batch_size)


def test_every_point_is_trained_once_and_a_finished_study_trains_nothing(run, ledger, points, seen):
    assert run({}, n_workers=2) == []
    assert sorted(seen.finished) == sorted(p.id for p in points)
    assert all(ledger.has_result(p.id) for p in points)
    assert run({}, n_workers=2) == []
    assert len(order(ledger)) == len(points)


def test_only_what_is_missing_is_trained(run, ledger, points, record):
    done, missing = points[::2], points[1::2]
    for point in done:
        ledger.write_result(point.id, record())
    run({})
    assert {name for _, name in order(ledger)} == {p.id for p in missing}


def test_long_points_come_first_and_a_worker_stays_with_a_program(run, ledger, points):
    run({})
    by_id = {p.id: p for p in points}
    trained = [by_id[name] for _, name in order(ledger)]
    assert trained[0].flops["matmul_full"] == max(p.flops["matmul_full"] for p in points)
    changes = sum(program(a) != program(b) for a, b in itertools.pairwise(trained))
    assert changes == len({program(p) for p in points}) - 1


def test_a_worker_waits_for_jobs_to_come_and_ends_with_us(run, ledger, points):
    with IdleWorkers() as idle:
        run({}, n_workers=2, chosen=points[:4], idle=idle)
        first = pids(ledger)
        assert len(first) == 2
        assert all(is_alive(pid) for pid in first)
        run({}, n_workers=2, chosen=points[4:8], idle=idle)
        assert pids(ledger) == first
        # What the next jobs have no use for ends before they begin.
        run({}, n_workers=1, chosen=points[8:9], idle=idle)
        assert pids(ledger) == first
        (left,) = [pid for pid in first if is_alive(pid)]
        os.kill(left, signal.SIGKILL)
        run({}, n_workers=1, chosen=points[9:10], idle=idle)
        assert len(pids(ledger)) == 3
    assert not any(is_alive(pid) for pid in pids(ledger))
    assert all(ledger.has_result(point.id) for point in points[:10])


def test_a_crash_is_tried_again_by_a_new_worker(run, ledger, points, seen):
    bad = points[0].id
    assert run({bad: "crash once"}) == []
    assert ledger.has_result(bad)
    assert [(name, attempt) for name, attempt, _ in seen.attempts] == [(bad, 1)]
    assert "exit code 9: out of luck [/today]" in seen.attempts[0][2]


def test_a_point_that_crashes_every_time_is_reported_and_the_others_are_done(
    run, ledger, points, seen
):
    bad = points[0].id
    failures = run({bad: "crash"}, n_workers=2)
    assert [point.id for point, _ in failures] == [bad]
    assert "out of luck" in failures[0][1]
    assert [attempt for _, attempt, _ in seen.attempts] == list(range(1, MAX_ATTEMPTS + 1))
    assert [p.id for p in points if not ledger.has_result(p.id)] == [bad]


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [("refused", ValueError, "mesh does not fit"), ("disk", DiskError, "cannot write here")],
)
def test_a_refusal_ends_the_run_with_its_reason(run, ledger, points, how, error, words):
    with pytest.raises(error, match=words):
        run({"*": how})
    assert len(order(ledger)) == 1
    assert not (ledger.folder / "jobs").exists()


def test_a_flag_that_xla_does_not_know_is_refused_and_no_attempt_is_counted(
    run, ledger, points, seen
):
    with pytest.raises(ValueError, match=r"^Unknown flag in XLA_FLAGS: --xla_typo=1. Mend or uns"):
        run({"*": "unknown flag"})
    assert seen.attempts == []
    assert not (ledger.folder / "jobs").exists()


@pytest.mark.parametrize("how", ["preempted", "compiling"])
def test_a_preempted_worker_has_not_failed_and_another_goes_on(run, ledger, points, seen, how):
    bad = points[0].id
    assert run({bad: how}) == []
    assert seen.attempts == []
    assert [name for _, name in order(ledger)].count(bad) == 3
    assert sorted(seen.finished) == sorted(p.id for p in points)


def test_what_others_have_is_asked_for_again_when_nothing_else_is_left(
    run, ledger, points, seen, monkeypatch
):
    monkeypatch.setattr(local, "POLL_SECONDS", 0.01)
    taken = max(points, key=lambda p: p.flops["matmul_full"]).id
    assert run({taken: "owned"}) == []
    tried = [name for _, name in order(ledger)]
    assert tried[0] == taken
    assert tried[-2:] == [taken, taken]
    assert seen.attempts == []
    assert seen.finished[-1] == taken
    assert seen.others == [(taken, "process 1 on moon has it")], "said once"


def test_a_failure_that_a_worker_survives_is_tried_again_by_the_same_worker(
    run, ledger, points, seen
):
    bad = points[0].id
    assert run({bad: "failed"}) == []
    assert [(name, reason) for name, _, reason in seen.attempts] == [(bad, "out of memory")]
    assert len({pid for pid, _ in order(ledger)}) == 1


def test_a_job_that_was_given_up_is_reported_and_not_tried(run, ledger, points):
    failures = run({points[0].id: "gave up"})
    assert [(point.id, reason) for point, reason in failures] == [(points[0].id, "failed 3 times")]


def test_a_worker_that_died_is_written_down_for_the_next_one(run, ledger, points):
    run({points[0].id: "crash once"})
    ending = ledger.job(points[0].id).ending(1)
    assert ending.how == "killed"
    assert "exit code 9: out of luck" in ending.reason
    assert ledger.job(points[0].id).owner(1).pid == this_process().pid


def test_a_worker_that_died_with_a_damaged_claim_is_no_end_of_the_run(run, ledger, points):
    name = points[0].id
    ledger.job(name).claim(this_process({}), lease_seconds=9, max_attempts=9)
    path = ledger.folder / "jobs" / name / "claims" / "000001.json"
    path.write_bytes(b"")
    assert run({name: "crash once"}) == []


def test_a_worker_that_died_after_its_result_has_not_failed(run, ledger, points, seen):
    name = points[0].id
    assert run({name: "crash after its result"}) == []
    assert sorted(seen.finished) == sorted(p.id for p in points)
    assert seen.attempts == []
    assert ledger.job(name).failures() == []


def test_lines_that_are_no_events_are_passed_over(run, ledger, points, seen):
    assert run({points[0].id: "garbage"}) == []
    assert len(seen.finished) == len(points)
    assert seen.attempts == []


def test_an_interrupt_ends_the_workers(run, ledger, points, seen, monkeypatch):
    """Raised where Ctrl-C arrives: in the main thread, which waits for the slots."""
    sleep = time.sleep

    def interrupted(seconds):
        sleep(seconds)
        if list(ledger.folder.glob("*.tries")):
            raise KeyboardInterrupt

    monkeypatch.setattr(local.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run({"*": "hang"})
    assert pids(ledger)
    assert not any(is_alive(pid) for pid in pids(ledger))
    assert not (ledger.folder / "jobs").exists(), "an interrupt is no failed attempt"


def test_a_closed_pipe_stops_the_workers_and_no_attempt_has_failed(run, ledger, seen):
    """Raised where progress is printed: in the thread of a worker."""

    def closed():
        raise PipeClosed

    seen.on_progress = closed
    with pytest.raises(PipeClosed):
        run({}, n_workers=2)
    assert pids(ledger)
    assert not any(is_alive(pid) for pid in pids(ledger))
    assert not (ledger.folder / "jobs").exists(), "nobody to read is no failed attempt"


RUN_AND_BE_INTERRUPTED = """
import signal, sys
from pathlib import Path
from experiments.executors.base import QueuedJob
from experiments.executors.local import Local
from experiments.executors.local_devices import Place
from experiments.executors.worker_settings import WorkerSettings
class Told(Exception): pass
def tell(*_): raise Told
signal.signal(signal.SIGTERM, tell)
class Watch:
    def event(self, *_): print("training", flush=True)
command = (sys.executable, sys.argv[1])
local = Local(places=(Place(), Place()), settings=WorkerSettings(), program=command)
jobs = [QueuedJob(id=name, needs=None, program=name, flops=1.0) for name in "ab"]
try:
    local.run(Path(sys.argv[2]), jobs, Watch())
except Told:
    print("told", sorted(p.name for p in Path(sys.argv[2]).glob("*.saved")), flush=True)
"""
SLOW_TO_SAVE = """
import json, signal, sys, time
from pathlib import Path
root = Path(sys.argv[sys.argv.index("--root") + 1])
def save(*_):
    time.sleep(1.0)
    (root / f"{name}.saved").write_text("")
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
name = sys.stdin.readline().strip()
print(json.dumps({"event": "owned", "id": name, "reason": "told"}), flush=True)
time.sleep(60)
"""


def test_a_runner_that_is_told_to_end_waits_until_its_workers_have_saved(tmp_path):
    """A handler that raises in Thread.join() makes CPython take the thread for ended."""
    worker = tmp_path / "worker.py"
    worker.write_text(SLOW_TO_SAVE)
    with subprocess.Popen(
        [sys.executable, "-c", RUN_AND_BE_INTERRUPTED, str(worker), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as runner:
        assert [runner.stdout.readline() for _ in "ab"] == ["training\n"] * 2
        runner.send_signal(signal.SIGTERM)
        assert runner.stdout.read() == "told ['a.saved', 'b.saved']\n"


def ignores_interrupts(pid: int) -> bool:
    with open(f"/proc/{pid}/status") as file:
        masks = [int(line.split()[1], 16) for line in file if line.startswith("SigIgn")]
    return bool(masks[0] >> (signal.SIGINT - 1) & 1)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
def test_a_worker_outlives_ctrl_c_and_ends_when_its_input_ends(make_manifest, ledger):
    """Ctrl-C reaches the whole group: a worker that died of it would count as a failed attempt."""
    ledger.folder.mkdir(parents=True)
    make_manifest().write(ledger.manifest)
    arguments = ("--root", str(ledger.folder), "--jobs", "-", "--mesh", "1,1,1,1")
    with subprocess.Popen(
        [sys.executable, "-m", "experiments.worker", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as worker:
        try:
            until = time.monotonic() + 10
            while not ignores_interrupts(worker.pid) and time.monotonic() < until:
                time.sleep(0.005)
            assert ignores_interrupts(worker.pid)
            worker.send_signal(signal.SIGINT)
            worker.stdin.close()
            assert worker.wait(timeout=30) == 0
        finally:
            worker.kill()


def cores(*asked):
    return [place.cores for place in worker_places(*asked)]


def environments(*asked):
    return [place.environment for place in worker_places(*asked)]


def test_workers_share_the_cores_without_overlap(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 5, 7}, raising=False)
    assert cores(None, 10, 1) == [(2,), (3,), (5,), (7,)]
    assert cores(None, 2, 1) == [(2, 3), (5, 7)]
    assert cores(None, 10, 8) == [(2, 3, 5, 7)]
    assert cores(3, 10, 1) == [(2,), (3,), (5,)]
    with pytest.raises(ValueError, match="--workers 0"):
        worker_places(0, 10, 1)


def test_workers_on_gpus_have_one_each_or_share_its_memory(monkeypatch):
    monkeypatch.setattr(local_devices, "has_accelerator", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    shown = [e["CUDA_VISIBLE_DEVICES"] for e in environments(None, 10, 1)]
    assert shown == ["0", "3"]
    assert len(environments(None, 1, 1)) == 1
    five = environments(5, 10, 1)
    assert [e["CUDA_VISIBLE_DEVICES"] for e in five] == ["0", "3", "0", "3", "0"]
    for gpu in "03":
        shares = [
            float(e["XLA_PYTHON_CLIENT_MEM_FRACTION"])
            for e in five
            if e["CUDA_VISIBLE_DEVICES"] == gpu
        ]
        assert sum(shares) <= 0.9 + 1e-9
    assert environments(None, 10, 2) == [{}], "a mesh of several takes all"


@pytest.fixture
def branching(branched, manifest):
    return list(plan(branched, manifest).points)


def test_a_branch_waits_for_its_trunk_and_no_step_is_trained_twice(run, ledger, branching, seen):
    assert run({}, n_workers=2, chosen=branching, trunks=True) == []
    names = [name for _, name in order(ledger)]
    planned_jobs = arrange(branching, (1, 1, 1, 1), trunks=True)
    assert sorted(names) == sorted(planned_job.job.id for planned_job in planned_jobs)
    # What is done is told before anything that begins from it is handed out.
    for planned_job in planned_jobs:
        if planned_job.job.parent is not None:
            assert names.index(planned_job.job.parent) < names.index(planned_job.job.id)
    assert all(ledger.has_result(point.id) for point in branching)


def test_what_begins_from_a_failed_trunk_is_told_and_the_rest_is_done(run, ledger, branching, seen):
    tree = grow(branching)[0]
    middle = trunk_id([tree.points[-1]], tree.leaves_at[1])
    failures = run({middle: "crash"}, n_workers=2, chosen=branching, trunks=True)
    lost = {point.id for point in tree.points[1:]}
    assert {point.id for point, _ in failures} == lost
    assert any(middle in reason for _, reason in failures)
    assert {point.id for point in branching if not ledger.has_result(point.id)} == lost
    assert [name for _, name in order(ledger)].count(middle) == MAX_ATTEMPTS


def test_what_has_the_longest_way_to_go_begins_first(run, ledger, branching):
    run({}, chosen=branching, trunks=True)
    first = order(ledger)[0][1]
    largest = max(branching, key=lambda point: point.flops["matmul_full"])
    (tree,) = [tree for tree in grow(branching) if largest in tree.points]
    assert first.startswith("trunk-")
    planned_jobs = arrange(branching, (1, 1, 1, 1), trunks=True)
    (planned_job,) = [planned_job for planned_job in planned_jobs if planned_job.job.id == first]
    assert planned_job.points[0].spec.model.d_model == tree.points[0].spec.model.d_model


def test_fitting_here_leaves_workers_their_accelerators(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    prepare_to_fit()
    assert "JAX_PLATFORMS" not in os.environ
    assert jax.config.jax_platforms == "cpu"
