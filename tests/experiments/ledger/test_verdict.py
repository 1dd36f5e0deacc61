# SPDX-License-Identifier: Apache-2.0
"""The state of every point, as each of the ways in which a run can stand leaves it on disk."""

import csv
import dataclasses
import io
import json
import os
import time

import msgspec
import pytest
from rich.console import Console

from experiments.files.checked_json import Damaged, with_checksum
from experiments.ledger.asked_points import read_asked
from experiments.ledger.claims import Limits
from experiments.ledger.owner import this_process
from experiments.ledger.progress import running_trunks, survey
from experiments.ledger.result import Ended
from experiments.ledger.tables import collate, csv_text
from experiments.ledger.verdict import Judge
from experiments.operations.export import rows
from experiments.operations.retry import retry
from experiments.plan.arrange import arrange
from experiments.plan.jobs import alone
from experiments.plan.plan import plan
from experiments.plan.trunks import grow
from experiments.report.rows import run_rows
from experiments.train.engines import Engine
from experiments.train.run_points import Training

ME = this_process({})
ELSEWHERE = dataclasses.replace(ME, host="moon", boot_id="another")
DEAD = dataclasses.replace(ME, pid=2**22 + 1, start_ticks=1)


def claim(job, owner, *, silence=0.0):
    number = job.claim(owner, lease_seconds=0.0, max_attempts=99)
    then = time.time() - silence
    for path in (f"{job.key}/hb/{number:06d}", f"{job.key}/claims/{number:06d}.json"):
        os.utime(job.storage.root / path, (then, then))
    return number


def end(job, how, *, step=0, owner=ME):
    job.end(claim(job, owner), how, f"because {how}", step)


def nothing(ledger, job, record):
    pass


def done(ledger, job, record):
    claim(job, ME)
    ledger.write_result(job.id, record(2.0))


def diverged(ledger, job, record):
    ledger.write_result(job.id, record(None, status="diverged", reason="no number"))


def alive_here_though_silent(ledger, job, record):
    claim(job, ME, silence=1e6)


def alive_elsewhere(ledger, job, record):
    claim(job, ELSEWHERE, silence=50.0)


def silent_elsewhere(ledger, job, record):
    claim(job, ELSEWHERE, silence=150.0)


def dead_here(ledger, job, record):
    claim(job, DEAD)


def asked_to_go(ledger, job, record):
    for _ in range(9):
        end(job, "preempted")


def killed(ledger, job, record):
    end(job, "exception")
    end(job, "killed")


def failed_once(ledger, job, record):
    end(job, "exception")


def failed(ledger, job, record):
    for _ in range(3):
        end(job, "oom")


def failed_but_got_further(ledger, job, record):
    for step in (0, 10, 10):
        end(job, "oom", step=step)


def forgiven(ledger, job, record):
    failed(ledger, job, record)
    job.forgive()


def tried_again_after_failures(ledger, job, record):
    failed(ledger, job, record)
    claim(job, ME)


def claim_deleted(ledger, job, record):
    number = claim(job, ME)
    (ledger.folder / job.key / "claims" / f"{number:06d}.json").unlink()


def claim_damaged(ledger, job, record):
    number = claim(job, ME)
    (ledger.folder / job.key / "claims" / f"{number:06d}.json").write_text("{}")


def result_damaged(ledger, job, record):
    ledger.write_result(job.id, record(2.0))
    path = ledger.folder / "runs" / job.id / "result.json"
    path.write_text(path.read_text().replace("2.0", "2.1"))


CASES = (
    (nothing, "waiting", ""),
    (done, "done", ""),
    (diverged, "diverged", "no number"),
    (alive_here_though_silent, "running", ""),
    (alive_elsewhere, "running", ""),
    (silent_elsewhere, "preempted", "without a word"),
    (dead_here, "preempted", "without a word"),
    (asked_to_go, "preempted", "because preempted"),
    (killed, "preempted", "because killed"),
    (failed_once, "waiting", "because exception"),
    (failed, "failed", "because oom"),
    (failed_but_got_further, "waiting", "because oom"),
    (forgiven, "waiting", "because oom"),
    (tried_again_after_failures, "running", ""),
    (claim_deleted, "waiting", ""),
    (claim_damaged, "running", ""),
    (result_damaged, "damaged", "result.json is damaged"),
)


def look(ledger, **changes):
    return survey(ledger, read_asked(ledger), **{"n_devices": 1} | changes)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
@pytest.mark.parametrize(("arrange", "state", "reason"), CASES, ids=[c[0].__name__ for c in CASES])
def test_each_way_to_stand_is_told_by_what_it_leaves(
    ledger, planned, record, arrange, state, reason
):
    point = planned[3]
    arrange(ledger, ledger.job(point.id), record)
    states = look(ledger)
    assert list(states) == [p.id for p in planned]
    assert states[point.id].state == state
    assert reason in states[point.id].reason
    assert bool(states[point.id].reason) == bool(reason)
    others = [s.state for name, s in states.items() if name != point.id]
    assert set(others) == {"waiting"}


def row(step, n_steps, **changes):
    same = {"step": step, "n_steps": n_steps, "n_tokens": 10 * step, "resumed_at": 0}
    same |= {"peak_flops_per_second": 0}
    return same | {"train_seconds": 2.0, "wall_seconds": 3.0, "loss_nats": 1.0} | changes


def test_a_running_attempt_tells_its_speed_and_time_left(ledger, planned):
    point, job = planned[0], ledger.job(planned[0].id)
    end(job, "killed")
    claim(job, ME)
    ledger.metrics.write(point.id, 1, row(30, 100, train_seconds=9.0))
    ledger.metrics.write(point.id, 2, row(20, 100, resumed_at=20, train_seconds=0.0))
    assert look(ledger)[point.id].progress.tokens_per_second is None
    ledger.metrics.write(point.id, 2, row(60, 100, resumed_at=20, train_seconds=4.0))
    state = look(ledger)[point.id]
    assert (state.state, state.attempt, state.worker.host) == ("running", 2, ME.host)
    assert state.progress.tokens_per_second == pytest.approx(100.0)  # 40 steps of 10 in 4 s.
    assert state.progress.seconds_left == pytest.approx(4.0)


def test_what_runs_side_by_side_on_a_device_adds_up_to_its_seconds(ledger, planned):
    for point in planned[:3]:
        claim(ledger.job(point.id), ME)
        ledger.metrics.write(point.id, 1, row(1, 9, wall_seconds=30.0, n_sharing=3))
    states = look(ledger, n_devices=4)
    assert sum(states[point.id].device_seconds for point in planned[:3]) == 4 * 30.0


def test_costs_count_every_attempt_and_the_steps_that_were_reached(ledger, planned, record):
    first, second, third = planned[:3]
    n = first.spec.train.schedule.n_steps
    for attempt, step in ((1, n // 2), (2, n // 4)):
        ledger.job(first.id).end(claim(ledger.job(first.id), ME), "killed", "lost", 0)
        ledger.metrics.write(first.id, attempt, row(1, n, wall_seconds=1.0))
        ledger.metrics.write(first.id, attempt, row(step, n, wall_seconds=10.0 * attempt))
    costs = {"device_seconds": 77.0, "joules": 5.0, "joules_source": "rapl"}
    whole = record(2.0, costs=costs)
    ledger.write_result(second.id, whole)
    ended = record(None, status="diverged")
    ledger.metrics.write(third.id, 1, row(n // 4, n))
    ledger.write_result(third.id, ended)
    states = look(ledger, n_devices=4)
    flops = first.flops[first.convention]
    assert states[first.id].device_seconds == 4 * 30.0
    assert states[first.id].flops == pytest.approx(flops * (n // 2) / n)
    assert (states[second.id].device_seconds, states[second.id].joules) == (77.0, 5.0)
    assert states[second.id].flops == second.flops[second.convention]
    n_third = third.spec.train.schedule.n_steps
    expected = third.flops[third.convention] * (n // 4) / n_third
    assert states[third.id].flops == pytest.approx(expected)


def test_torn_lines_are_counted_in_unfinished_and_in_interrupted_attempts(ledger, planned, record):
    for point in planned[:3]:
        ledger.metrics.write(point.id, 1, row(1, 2))
        ledger.storage.append(f"runs/{point.id}/metrics/000001.jsonl", b'{"step": 2, "n_st')
    end(ledger.job(planned[0].id), "killed")
    attempts = (Ended(attempt=1, how="killed", step=0),)
    interrupted = record(2.0, provenance={"attempt": 2, "attempts": attempts})
    undisturbed = record(2.0)
    ledger.write_result(planned[1].id, interrupted)
    ledger.write_result(planned[2].id, undisturbed)
    states = look(ledger)
    assert [states[p.id].n_torn for p in planned[:3]] == [1, 1, 0]


def test_points_of_a_pack_have_the_state_of_their_job(ledger, points, study):
    job = arrange(points[:2], study.mesh, pack_size=lambda point: 2)[0].job
    ledger.write_plan("{}", points, [job, *(alone(p).job for p in points[2:])])
    claim(ledger.job(job.id), ME)
    states = look(ledger)
    assert [states[p.id].state for p in points[:3]] == ["running", "running", "waiting"]


@pytest.mark.parametrize("last", ["alone", "packed"])
def test_of_a_point_in_several_jobs_the_one_heard_of_last_is_judged(ledger, points, study, last):
    """Packed and then alone, or the other way round: `run` judges the jobs that it arranges."""
    pack = arrange(points[:2], study.mesh, pack_size=lambda point: 2)[0].job
    ledger.write_plan("{}", points, [pack, *(alone(point).job for point in points)])
    jobs = {"alone": ledger.job(points[0].id), "packed": ledger.job(pack.id)}
    (other,) = jobs.keys() - {last}
    number = claim(jobs[other], ME, silence=600.0)
    jobs[other].end(number, "preempted", "asked to stop", 0)
    for _ in range(3):
        end(jobs[last], "oom")
    assert look(ledger)[points[0].id].state == "failed"
    collate(ledger, points)
    assert row_of(ledger.table, points[0].id)["status"] == "failed"
    retry("tiny", [points[0].id], ledger, Console(), limits=Limits())
    assert look(ledger)[points[0].id].state == "waiting"


def test_what_has_a_result_is_not_read_again(ledger, planned, record):
    ledger.write_result(planned[0].id, record(2.0))
    known = look(ledger)
    (ledger.folder / "runs" / planned[0].id / "result.json").write_text("damaged meanwhile")
    ledger.write_result(planned[1].id, record(2.0))
    again = look(ledger, known=known)
    assert [again[p.id].state for p in planned[:2]] == ["done", "done"]
    assert look(ledger)[planned[0].id].state == "damaged"


def test_a_damaged_plan_is_named_and_a_changed_one_too(ledger, planned):
    path = ledger.folder / "plan.jsonl"
    good = path.read_bytes()
    for bad in (good[:-9], b"{}\n", with_checksum(msgspec.json.encode({"id": "x"}).decode())):
        path.write_bytes(bad)
        with pytest.raises(Damaged, match=r"plan.jsonl is damaged.*isoflop run"):
            read_asked(ledger)


def test_a_plan_that_an_earlier_version_wrote_with_other_spaces_is_read(ledger, planned):
    path = ledger.folder / "plan.jsonl"
    *lines, end = path.read_bytes().splitlines(keepends=True)
    said = msgspec.json.decode(end)["record"]
    path.write_bytes(b"".join(lines) + with_checksum(json.dumps(said)))
    assert [point.id for point in read_asked(ledger)] == [point.id for point in planned]


def row_of(path, run_id):
    with path.open(newline="") as file:
        return next((row for row in csv.DictReader(file) if row["run_id"] == run_id), None)


# Runs trained together, what `isoflop run` was told, failures, the verdict on each of the runs.
ENOUGH = (
    ("a pack after three failures", 3, Limits(), 3, "failed"),
    ("a pack after two failures", 3, Limits(), 2, "waiting"),
    ("two failures where two are enough", 1, Limits(max_attempts=2), 2, "failed"),
    ("three failures where five are enough", 1, Limits(max_attempts=5), 3, "waiting"),
    ("five failures where five are enough", 1, Limits(max_attempts=5), 5, "failed"),
)


@pytest.mark.parametrize(
    ("n_runs", "limits", "n_failures", "state"), [c[1:] for c in ENOUGH], ids=[c[0] for c in ENOUGH]
)
def test_table_status_export_retry_and_report_give_one_verdict(
    ledger, points, study, limits, n_runs, n_failures, state, tmp_path
):
    same = [dataclasses.replace(points[0], id=f"{i:016x}") for i in range(n_runs)]
    (planned_job,) = arrange(same, study.mesh, pack_size=lambda point: n_runs)
    job = ledger.job(planned_job.job.id)
    ledger.write_plan("{}", same, [planned_job.job])
    ledger.write_limits(limits)
    for _ in range(n_failures):
        end(job, "oom")
    console = Console(file=io.StringIO(), width=200, markup=False)
    path = tmp_path / "all.csv"
    collate(ledger, same)
    for point in same:
        assert look(ledger)[point.id].state == state
        row = row_of(ledger.table, point.id)
        assert (row is not None) == (state == "failed")
        assert row is None or (row["status"], row["reason"]) == ("failed", "because oom")
    path.write_text(csv_text(list(rows(ledger, same, ledger.limits()))))
    assert {row_of(path, point.id)["status"] for point in same} == {state}
    shown = run_rows(same, {point.id: Judge(ledger).point(point.id) for point in same})
    assert {row["status"] for row in shown} == {"failed" if state == "failed" else "missing"}
    retry("mine", (), ledger, console, limits=ledger.limits())
    assert ("No run has failed" in console.file.getvalue()) == (state != "failed")
    assert {s.state for s in look(ledger).values()} == {"waiting"}


def test_a_flag_says_otherwise_than_the_ledger(ledger, planned):
    ledger.write_limits(Limits(max_attempts=5))
    for _ in range(3):
        end(ledger.job(planned[0].id), "oom")
    assert look(ledger)[planned[0].id].state == "waiting"
    assert look(ledger, limits=Limits(max_attempts=3))[planned[0].id].state == "failed"


def test_a_silent_attempt_is_judged_by_the_lease_that_the_run_was_told(ledger, planned):
    claim(ledger.job(planned[0].id), ELSEWHERE, silence=150.0)
    assert look(ledger)[planned[0].id].state == "preempted"
    ledger.write_limits(Limits(lease_seconds=600.0))
    assert look(ledger)[planned[0].id].state == "running"


@pytest.mark.parametrize("bad", [{"max_attempts": 0}, {"lease_seconds": float("inf")}])
def test_limits_that_cannot_be_are_refused_before_they_are_kept(bad):
    with pytest.raises(ValueError, match=r"--(max-attempts|lease-seconds)"):
        Limits(**bad)
    with pytest.raises(ValueError, match=r"--(max-attempts|lease-seconds)"):
        Training(engine=Engine(), **bad)


def test_limits_that_are_damaged_are_named(ledger, planned):
    ledger.write_limits(Limits())
    (ledger.folder / "limits.json").write_text("{}")
    with pytest.raises(Damaged, match=r"limits\.json is damaged. Delete it: `isoflop run`"):
        look(ledger)


@pytest.fixture
def tree(ledger, branched, manifest):
    """The jobs of a trunk of two segments and its three branches."""
    points = list(plan(branched, manifest).points)
    jobs = [j.job for j in arrange(grow(points)[0].points, branched.mesh, trunks=True)]
    ledger.write_plan("{}", points, jobs)
    return jobs


@pytest.mark.parametrize(("silence", "is_running"), [(150.0, True), (650.0, False)])
def test_a_trunk_is_judged_by_the_lease_that_the_run_was_told(ledger, tree, silence, is_running):
    ledger.write_limits(Limits(lease_seconds=600.0))
    claim(ledger.job(tree[0].id), ELSEWHERE, silence=silence)
    assert bool(running_trunks(ledger, read_asked(ledger))) == is_running


def test_what_begins_from_a_failed_trunk_has_failed_and_is_forgiven_with_it(ledger, tree):
    trunk, branches = tree[0], [job for job in tree if job.kind != "trunk"]
    for _ in range(3):
        end(ledger.job(trunk.id), "oom")
    failed = {name: s.reason for name, s in look(ledger).items() if s.state == "failed"}
    assert set(failed) == {job.id for job in branches}
    assert set(failed.values()) == {f"{trunk.id} failed: because oom"}
    console = Console(file=io.StringIO(), width=200, markup=False)
    retry("mine", (), ledger, console, limits=Limits())
    assert {s.state for s in look(ledger).values()} == {"waiting"}
    assert ledger.job(trunk.id).claim(ME, lease_seconds=9, max_attempts=3) == 4
