# SPDX-License-Identifier: Apache-2.0
import dataclasses
import io
import os
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from experiments.files.checked_json import encode
from experiments.ledger.claims import Limits
from experiments.ledger.ledger import plan_file
from experiments.ledger.owner import this_process
from experiments.ledger.result import VERSION, LedgerVersion
from experiments.operations import status
from experiments.operations.running import seconds_left
from experiments.plan.arrange import arrange
from experiments.plan.jobs import alone
from experiments.plan.plan import plan
from experiments.plan.point import to_json


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200, markup=False)


@pytest.fixture
def planned(ledger, points, study):
    ledger.write_plan(to_json(study), points, [alone(point).job for point in points])
    return points


@pytest.fixture
def show(ledger, study, console):
    """What status prints."""

    def show(**changes) -> str:
        status.status(study, ledger, console, name="mine", **{"limits": Limits()} | changes)
        return console.file.getvalue()

    return show


def start(ledger, name):
    return ledger.job(name).claim(this_process({}), lease_seconds=0.0, max_attempts=99)


def fail(ledger, name, reason="boom"):
    for _ in range(3):
        ledger.job(name).end(start(ledger, name), "exception", reason, 0)


def test_flags_are_counted_and_nothing_is_said_without_any(show, ledger, planned, record):
    ledger.write_result(planned[0].id, record())
    assert "flags" not in show()
    ledger.write_result(planned[1].id, record(flags=("spike", "undercooled")))
    ledger.write_result(planned[2].id, record(flags=("undercooled",)))
    assert "flags: spike 1, undercooled 2; by run in table.csv, at the end." in show()


def test_time_left_follows_from_what_runs_have_taken():
    """Two of 2^5 times the FLOPs, 16 times the work, are half done, two at a time as one pack; one
    of the small ones is to come, one took 3 device-seconds."""

    def point(flops):
        return SimpleNamespace(flops={"x": flops}, convention="x")

    def state(state, seconds=0.0, progress=None, worker=None):
        return SimpleNamespace(
            state=state, device_seconds=seconds, progress=progress, worker=worker
        )

    points = {"a": point(1e9), "b": point(1e9), "c": point(32e9), "d": point(32e9)}
    half = state("running", 9.0, SimpleNamespace(step=5, n_steps=10, n_sharing=2), worker="w")
    states = {"a": state("done", 3.0), "b": state("waiting"), "c": half, "d": half}
    assert seconds_left(points, states, 1) == pytest.approx(3 * (1 + 16))
    assert seconds_left(points, states, 4) == pytest.approx(3 * (1 + 16) / 4)
    assert seconds_left(points, states | {"a": state("failed", 3.0)}, 1) is None
    nobody = {"c": state("waiting"), "d": state("waiting")}
    assert seconds_left(points, states | nobody, 1) is None


def test_a_study_that_is_neither_finished_nor_running_is_told_how_it_goes_on(
    show, ledger, planned, record, console
):
    goes_on = "No worker runs now; `isoflop run STUDY` goes on."
    assert goes_on in show()
    console.file.truncate(0)
    start(ledger, planned[0].id)
    assert goes_on not in show()
    for point in planned:
        ledger.write_result(point.id, record())
    assert goes_on not in show()


def test_states_are_counted_by_budget_and_size(show, ledger, planned, record):
    first = planned[0]
    same = [p for p in planned if (p.budget, p.spec.model) == (first.budget, first.spec.model)]
    assert len(same) == 2
    ledger.write_result(same[0].id, record())
    fail(ledger, same[1].id)
    lines = show().splitlines()
    assert lines[0].split() == ["role", "budget", "d_model", *status._COLUMNS]
    assert lines[1].split() == ["grid", "1e11", str(first.spec.model.d_model), "1", "1"]
    at = [lines[0].index(kind) + len(kind) - 1 for kind in ("done", "failed")]
    assert [lines[1][i] for i in at] == ["1", "1"]
    assert f"1 of {len(planned)} runs have a result: 1 done, 1 failed, " in show()
    assert "now asks otherwise" not in show()


def test_running_runs_show_speed_time_left_attempt_and_host(show, ledger, planned):
    point = planned[0]
    n = point.spec.train.schedule.n_steps
    row = {"step": n // 2, "n_steps": n, "n_tokens": 128 * (n // 2), "resumed_at": 0}
    row |= {"peak_flops_per_second": 0}
    start(ledger, point.id)
    start(ledger, planned[1].id)
    ledger.metrics.write(point.id, 1, row | {"train_seconds": 64.0, "wall_seconds": 70.0})
    text = show()
    line = next(line for line in text.splitlines() if line.startswith(point.id[:8]))
    left = (n - n // 2) / (n // 2) * 64.0
    assert line.split()[-10:] == [
        f"{n // 2:,}",
        "of",
        f"{n:,}",
        f"{int(left // 60)}:{round(left % 60):02d}",
        "0",
        "s",
        "ago",
        f"{2 * (n // 2):,}",
        "1",
        this_process({}).host,
    ]
    assert re.search(f"{planned[1].id[:8]} .* compiling 0:00 ", text)
    assert "cost so far: 0.02 device hours" in text


def test_a_running_run_shows_its_share_of_the_peak_that_its_worker_told(show, ledger, planned):
    point = planned[0]
    n = point.spec.train.schedule.n_steps
    per_step = point.flops["matmul_full"] / n
    row = {"step": n // 2, "n_steps": n, "n_tokens": 128 * (n // 2), "resumed_at": 0}
    row |= {"peak_flops_per_second": 0}
    row |= {"train_seconds": float(n // 2), "wall_seconds": 70.0}
    start(ledger, point.id)
    ledger.metrics.write(point.id, 1, row | {"peak_flops_per_second": 4 * per_step})
    assert " 25.0% " in show()


def test_reasons_are_printed_as_they_are_and_from_the_twentieth_on_counted(
    show, ledger, points, record, study
):
    many = [dataclasses.replace(points[0], id=f"{i:016x}") for i in range(25)]
    ledger.write_plan(to_json(study), many, [alone(point).job for point in many])
    for point in many[:3]:
        fail(ledger, point.id, "killed [/oom] :boom:")
    for point in many[3:]:
        ledger.write_result(point.id, record(None, status="diverged", reason="no number"))
    text = show()
    assert text.count("failed 00") == 3
    assert text.count("killed [/oom] :boom:") == 3
    assert text.count("diverged 00") == 17
    assert "and 5 more diverged" in text
    assert "isoflop retry" in text


def test_a_run_that_waits_after_an_end_says_why(show, ledger, planned):
    ledger.job(planned[0].id).end(start(ledger, planned[0].id), "disk", "no space left", 0)
    text = show()
    assert f"waiting {planned[0].id} (1e11 d16 seed 0): no space left" in text
    assert text.count("waiting ") == 1, "runs that were never begun are only counted"


def test_energy_is_told_by_its_source(show, ledger, planned, record):
    for point, source, joules in zip(planned, ("rapl", "rapl", "nvml"), (1, 2, 4), strict=False):
        costs = {"joules": 3.6e6 * joules, "joules_source": source, "device_seconds": 3600.0}
        ledger.write_result(point.id, record(costs=costs))
    text = show()
    assert "energy of the attempts that finished 2 runs: 3 kWh (rapl)" in text
    assert "energy of the attempts that finished 1 runs: 4 kWh (nvml)" in text
    assert "cost so far: 3.00 device hours" in text


def test_an_edited_study_and_runs_it_no_longer_asks_for_are_said(show, ledger, planned, study):
    edited = dataclasses.replace(study, seeds=(0,))
    ledger.write_plan(to_json(edited), planned[1:])
    text = show()
    assert "1 runs in the folder are no longer asked for" in text
    assert "the study now asks otherwise" in text


def test_torn_lines_and_damaged_results_are_said(show, ledger, planned, record):
    ledger.storage.append(f"runs/{planned[0].id}/metrics/000001.jsonl", b'{"step": 2, "n_st')
    ledger.job(planned[0].id).end(start(ledger, planned[0].id), "killed", "lost", 0)
    ledger.write_result(planned[1].id, record())
    (ledger.folder / "runs" / planned[1].id / "result.json").write_text("{}")
    text = show()
    assert "1 torn or damaged lines of metrics" in text
    assert f"damaged {planned[1].id}" in text
    assert "isoflop doctor" in text


def test_watching_ends_when_every_run_has(show, ledger, planned, record, monkeypatch):
    left = list(planned)
    looks = []

    def train(seconds):
        looks.append(seconds)
        for point in [left.pop() for _ in left[:5]]:
            ledger.write_result(point.id, record())

    monkeypatch.setattr(time, "sleep", train)
    text = show(watch=7.0)
    assert not left
    assert looks == [7.0] * -(-len(planned) // 5)
    assert f"{len(planned)} of {len(planned)} runs have a result" in text


def test_watching_tells_the_time_and_what_workers_do_before_all_else(
    ledger, study, planned, record, monkeypatch
):
    def interrupt(seconds):
        raise KeyboardInterrupt

    source = "estimate: 8 W per core, and a word on where that number comes from"
    measured = record(costs={"joules": 36.0, "joules_source": source})
    ledger.write_result(planned[-1].id, measured)
    monkeypatch.setattr(time, "sleep", interrupt)
    monkeypatch.setattr(time, "strftime", lambda form: "12:34:56")
    start(ledger, planned[0].id)
    folder = ledger.folder / "jobs" / planned[0].id
    for name, age in (("claims/000001.json", 754.0), ("hb/000001", 8.0)):
        then = time.time() - age
        os.utime(folder / name, (then, then))
    console = Console(file=io.StringIO(), width=80, height=30, force_terminal=True, markup=False,
                      soft_wrap=True)  # fmt: skip
    status.status(study, ledger, console, name="mine", limits=Limits(), watch=1.0)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue()).splitlines()
    assert max(len(line.rstrip()) for line in shown) <= 80
    first = next(i for i, line in enumerate(shown) if line.startswith("12:34:56 1 of "))
    titles, row = (line.rstrip() for line in shown[first + 2 : first + 4])
    assert titles.startswith("running ")
    assert row.startswith(planned[0].id[:8])
    assert "compiling 12:34" in row
    assert "8 s ago" in row
    assert any("d_model" in line for line in shown[first + 4 :])
    # Said once on a page, and what is longer than a line goes on in the next.
    pages = " ".join(" ".join(shown).split())
    assert pages.count(" runs have a result: ") == pages.count("12:34:56 ")
    assert f"kWh ({source})" in pages


def test_ctrl_c_ends_watching_without_a_word(show, planned, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    assert "0 of" in show(watch=1.0)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_watching_without_a_pause_is_refused(show, planned, seconds):
    with pytest.raises(ValueError, match="--watch"):
        show(watch=seconds)


@pytest.mark.slow(reason="a folder of ten thousand runs")
def test_ten_thousand_runs_are_told_at_once(tmp_path, ledger, points, record):
    """Prints the seconds; a half done grid with all that a long one leaves behind."""
    n_runs, n_rows = 10_000, 50
    many = [dataclasses.replace(points[0], id=f"{i:016x}") for i in range(n_runs)]
    folder = ledger.folder
    folder.mkdir(parents=True)
    (folder / "plan.jsonl").write_bytes(plan_file(many))
    (folder / "ledger.json").write_bytes(encode(LedgerVersion(version=VERSION)))
    row = {"step": 1, "n_steps": 100, "n_tokens": 10, "resumed_at": 0}
    row |= {"peak_flops_per_second": 0}
    row |= {"train_seconds": 1.0, "wall_seconds": 1.0}
    for _ in range(n_rows):
        ledger.metrics.write("m", 1, row)
    metrics = (folder / "runs" / "m" / "metrics" / "000001.jsonl").read_bytes()
    owner = ledger.job("o").claim(this_process({}), lease_seconds=9, max_attempts=9)
    ledger.job("o").end(owner, "killed", "lost", 0)
    claim, ending = (
        (folder / "jobs" / "o" / kind / "000001.json").read_bytes()
        for kind in ("claims", "attempts")
    )

    def put(name, data=b""):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    kinds = ("done", "done", "done", "done", "done", "running", "killed", "waiting", "waiting")
    for i, point in enumerate(many):
        kind, name = kinds[i % len(kinds)], point.id
        put(f"runs/{name}/spec.json")
        put(f"jobs/{name}/job.json")
        if kind == "waiting":
            continue
        put(f"runs/{name}/metrics/000001.jsonl", metrics)
        put(f"jobs/{name}/claims/000001.json", claim)
        put(f"jobs/{name}/hb/000001")
        if kind == "done":
            put(f"runs/{name}/result.json", encode(record(2.0 + i)))
        if kind == "killed":
            put(f"jobs/{name}/attempts/000001.json", ending)
    results = tmp_path / "results"
    script = (
        "import time\nfrom experiments.cli.main import main\n"
        f"main(['status', 'quickstart', 'name=small', '--results', {str(results)!r}])\n"
        "print(f'{time.process_time():.2f} s of processor for ten thousand runs')"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    print(told.stdout[-700:])
    assert re.search(r"5556 of 10000 runs have a result: 5556 done, 1111 running", told.stdout)


def test_trunks_that_run_are_shown_and_their_cost_is_counted(
    ledger, branched, manifest, trunk_record, console
):
    points = list(plan(branched, manifest).points)
    trunks = [
        planned_job.job
        for planned_job in arrange(points, branched.mesh, trunks=True)
        if planned_job.job.kind == "trunk"
    ]
    ledger.write_plan(to_json(branched), points, trunks)
    row = {"step": 64, "n_steps": 687, "n_tokens": 64 * 128, "resumed_at": 0}
    row |= {"peak_flops_per_second": 0}
    start(ledger, trunks[0].id)
    ledger.metrics.write(trunks[0].id, 1, row | {"train_seconds": 2.0, "wall_seconds": 3.0})
    start(ledger, trunks[3].id)
    costs = {"device_seconds": 7200.0}
    trunk = trunk_record(points[0].cluster_id, step=trunks[3].steps[1], costs=costs)
    ledger.write_trunk(trunks[3].id, trunk)
    done = f"jobs/{trunks[3].id}/checkpoints/{trunks[3].steps[1]}-1.sha256"
    ledger.storage.create(done, b"")
    status.status(branched, ledger, console, name="mine", limits=Limits())
    text = console.file.getvalue()
    (line,) = [line.split() for line in text.splitlines() if line.startswith("trunk d16 seed 0 ")]
    assert line[4:7] == ["64", "of", f"{trunks[0].steps[1]:,}"]
    assert "4,096" in line
    assert "2.00 device hours, 2.00 of them on 1 trunks" in text


@pytest.mark.parametrize(("lease", "is_shown"), [(120.0, False), (600.0, True)])
def test_a_trunk_elsewhere_is_shown_by_the_lease_that_was_asked_for(
    ledger, branched, manifest, console, lease, is_shown
):
    points = list(plan(branched, manifest).points)
    jobs = [planned.job for planned in arrange(points, branched.mesh, trunks=True)]
    trunk = next(job for job in jobs if job.kind == "trunk")
    ledger.write_plan(to_json(branched), points, jobs)
    elsewhere = dataclasses.replace(this_process({}), host="moon", boot_id="another")
    ledger.job(trunk.id).claim(elsewhere, lease_seconds=9, max_attempts=9)
    then = time.time() - 300.0
    for kind in ("hb/000001", "claims/000001.json"):
        os.utime(ledger.folder / "jobs" / trunk.id / kind, (then, then))
    limits = Limits(lease_seconds=lease)
    status.status(branched, ledger, console, name="mine", limits=limits)
    assert ("moon" in console.file.getvalue()) == is_shown
