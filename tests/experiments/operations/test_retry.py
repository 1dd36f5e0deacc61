# SPDX-License-Identifier: Apache-2.0
import io

import pytest
from rich.console import Console

from experiments.executors.worker_settings import MAX_ATTEMPTS
from experiments.ledger.claims import GaveUp, Limits
from experiments.ledger.owner import this_process
from experiments.operations.retry import retry
from experiments.plan.jobs import alone

ME = this_process({})


@pytest.fixture
def planned(ledger, points):
    """The first two runs have failed, the third has diverged, the fourth is done."""
    ledger.write_plan("{}", points, [alone(point).job for point in points])
    for point in points[:2]:
        for _ in range(MAX_ATTEMPTS):
            end(ledger, point.id)
    return points


def end(ledger, name):
    job = ledger.job(name)
    job.end(job.claim(ME, lease_seconds=9, max_attempts=9), "oom", "out of [/memory]", 0)


@pytest.fixture
def go(ledger):
    def go(*ids, max_attempts=MAX_ATTEMPTS):
        console = Console(file=io.StringIO(), width=200, markup=False)
        retry("mine", ids, ledger, console, limits=Limits(max_attempts=max_attempts))
        return console.file.getvalue()

    return go


def has_given_up(ledger, name):
    try:
        ledger.job(name).claim(ME, lease_seconds=9, max_attempts=MAX_ATTEMPTS)
    except GaveUp:
        return True
    return False


def test_every_failed_run_is_forgiven_and_named(go, ledger, planned):
    text = go()
    assert "out of [/memory]" in text
    assert "isoflop run mine" in text
    for point in planned[:2]:
        assert point.id in text
        assert not has_given_up(ledger, point.id)
    assert planned[2].id not in text
    assert not (ledger.folder / "jobs" / planned[2].id / "retries").exists()
    assert "No run has failed" in go()


def test_only_the_runs_named_are_forgiven(go, ledger, planned):
    assert planned[0].id not in go(planned[1].id)
    assert has_given_up(ledger, planned[0].id)
    assert not has_given_up(ledger, planned[1].id)


def test_fewer_failures_are_enough_where_the_run_was_told_so(go, ledger, planned):
    end(ledger, planned[2].id)
    with pytest.raises(ValueError, match="has not failed"):
        go(planned[2].id)
    assert planned[2].id in go(planned[2].id, max_attempts=1)
    assert ledger.job(planned[2].id).failures() == []


REFUSED = (
    ("diverged", r"diverged.*another seed.*learning rate"),
    ("done", "has its result"),
    ("running", "is running"),
    ("waiting", "has not failed"),
    ("unknown", "no run 'unknown'"),
    ("../..", r"no run '\.\./\.\.'"),
)


@pytest.mark.parametrize(("what", "words"), REFUSED, ids=[r[0] for r in REFUSED])
def test_what_did_not_fail_is_refused_and_then_nothing_is_forgiven(
    go, ledger, planned, record, what, words
):
    name = what if what in ("unknown", "../..") else planned[2].id
    if what in ("diverged", "done"):
        ledger.write_result(name, record(status={"done": "ok"}.get(what, what)))
    if what == "running":
        ledger.job(name).claim(ME, lease_seconds=9, max_attempts=9)
    before = {path: path.read_bytes() for path in ledger.folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=words):
        go(planned[0].id, name)
    assert before == {p: p.read_bytes() for p in ledger.folder.rglob("*") if p.is_file()}
