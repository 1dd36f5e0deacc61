# SPDX-License-Identifier: Apache-2.0
"""The state of every point, as each of the ways in which a run can stand leaves it on disk."""

import dataclasses
import os
import time

import msgspec
import pytest

from experiments.files.checked_json import Damaged, seal
from experiments.ledger.claims import this_process
from experiments.ledger.point_states import read_asked, survey
from experiments.plan.arrange import arrange
from experiments.plan.jobs import solo

ME = this_process({})
ELSEWHERE = dataclasses.replace(ME, host="moon", boot_id="another")
DEAD = dataclasses.replace(ME, pid=2**22 + 1, start_ticks=1)


@pytest.fixture
def planned(ledger, points, study):
    ledger.write_plan("{}", points, [solo(point, study.mesh) for point in points])
    return points


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
    options = {"n_devices": 1, "lease_seconds": 120.0} | changes
    return survey(ledger, read_asked(ledger), **options)


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
    return same | {"train_seconds": 2.0, "wall_seconds": 3.0, "loss_nats": 1.0} | changes


def test_a_running_attempt_tells_its_speed_and_time_left(ledger, planned):
    point, job = planned[0], ledger.job(planned[0].id)
    end(job, "killed")
    claim(job, ME)
    ledger.write_metrics(point.id, 1, row(30, 100, train_seconds=9.0))
    ledger.write_metrics(point.id, 2, row(20, 100, resumed_at=20, train_seconds=0.0))
    assert look(ledger)[point.id].progress.tokens_per_second is None
    ledger.write_metrics(point.id, 2, row(60, 100, resumed_at=20, train_seconds=4.0))
    state = look(ledger)[point.id]
    assert (state.state, state.attempt, state.host) == ("running", 2, ME.host)
    assert state.progress.tokens_per_second == pytest.approx(100.0)  # 40 steps of 10 in 4 s.
    assert state.progress.seconds_left == pytest.approx(4.0)


def test_costs_count_every_attempt_and_the_steps_that_were_reached(ledger, planned, record):
    first, second, third = planned[:3]
    n = first.spec.train.schedule.n_steps
    for attempt, step in ((1, n // 2), (2, n // 4)):
        ledger.job(first.id).end(claim(ledger.job(first.id), ME), "killed", "lost", 0)
        ledger.write_metrics(first.id, attempt, row(1, n, wall_seconds=1.0))
        ledger.write_metrics(first.id, attempt, row(step, n, wall_seconds=10.0 * attempt))
    whole = record(2.0)
    whole["costs"] |= {"device_seconds": 77.0, "joules": 5.0, "joules_source": "rapl"}
    ledger.write_result(second.id, whole)
    ended = record(None, status="diverged") | {"flops": {}}
    ledger.write_metrics(third.id, 1, row(n // 4, n))
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
        ledger.write_metrics(point.id, 1, row(1, 2))
        ledger.storage.append(f"runs/{point.id}/metrics/000001.jsonl", b'{"step": 2, "n_st')
    end(ledger.job(planned[0].id), "killed")
    interrupted, undisturbed = record(2.0), record(2.0)
    interrupted["provenance"] |= {"attempt": 2, "attempts": [{"attempt": 1, "how": "killed"}]}
    undisturbed["provenance"] |= {"attempt": 1}
    ledger.write_result(planned[1].id, interrupted)
    ledger.write_result(planned[2].id, undisturbed)
    states = look(ledger)
    assert [states[p.id].n_torn for p in planned[:3]] == [1, 1, 0]


def test_points_of_a_pack_have_the_state_of_their_job(ledger, points, study):
    job = arrange(points[:2], study.mesh, pack_size=lambda point: 2)[0].job
    ledger.write_plan("{}", points, [job, *(solo(p, study.mesh) for p in points[2:])])
    claim(ledger.job(job.id), ME)
    states = look(ledger)
    assert [states[p.id].state for p in points[:3]] == ["running", "running", "waiting"]


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
    for bad in (good[:-9], b"{}\n", seal(msgspec.json.encode({"id": "x"}).decode())):
        path.write_bytes(bad)
        with pytest.raises(Damaged, match=r"plan.jsonl is damaged.*isoflop run"):
            read_asked(ledger)
