# SPDX-License-Identifier: Apache-2.0
"""What gc removes, and above all what it leaves."""

import dataclasses
import io
import os
import time

import pytest
from rich.console import Console

from experiments.ledger.claims import Limits
from experiments.ledger.ledger import Ledger
from experiments.ledger.owner import this_process
from experiments.ledger.prepared import prepare_study
from experiments.operations.gc import gc
from experiments.plan.arrange import arrange
from experiments.plan.plan import plan
from model.data.source import Mixture, Part, TextFiles
from model.data.tokenizer import TrainedBPE

ME = this_process({})
ELSEWHERE = dataclasses.replace(ME, host="moon", boot_id="another")
HEX = "0123456789abcdef" * 2
DAYS = 86400.0


@pytest.fixture
def go(ledger):
    def go(*options, delete=False):
        console = Console(file=io.StringIO(), width=300, markup=False, soft_wrap=True)
        gc("mine", ledger, console, delete=delete, options=options, limits=Limits())
        return console.file.getvalue()

    return go


def put(ledger, name, *, age=0.0, data=b"x" * 500):
    path = ledger.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def checkpoint(ledger, point):
    return put(ledger, f"jobs/{point.id}/checkpoints/10-1/state/data"), put(
        ledger, f"jobs/{point.id}/checkpoints/10-1.sha256"
    )


def start(ledger, point, owner=ME):
    return ledger.job(point.id).claim(owner, lease_seconds=99, max_attempts=9)


def files(ledger):
    return {path: path.read_bytes() for path in ledger.folder.rglob("*") if path.is_file()}


def test_checkpoints_go_where_every_point_has_its_result_and_only_there(
    go, ledger, planned, record
):
    done, diverged, damaged, running, dead, ended = planned[:6]
    for point in planned[:6]:
        checkpoint(ledger, point)
    for point in (done, damaged):
        start(ledger, point)
        ledger.write_result(point.id, record())
    ledger.write_result(diverged.id, record(None, status="diverged"))
    put(ledger, f"runs/{damaged.id}/result.json", data=b"{}")
    start(ledger, running)
    start(ledger, dead, dataclasses.replace(ME, pid=2**22 + 1))
    ledger.job(ended.id).end(start(ledger, ended), "preempted", "asked", 10)
    before = files(ledger)
    text = go()
    assert files(ledger) == before, "nothing goes unasked"
    assert "2 checkpoints of finished runs, 2 kB" in text
    assert "2 kB can go" in text
    assert "2 kB removed" in go(delete=True)
    gone = {path for path in before if path not in files(ledger)}
    assert {path.relative_to(ledger.folder).parts[1] for path in gone} == {done.id, diverged.id}
    assert all("checkpoints" in path.parts for path in gone)
    assert "Nothing in" in go(delete=True)


def test_runs_no_longer_asked_for_are_listed_and_lose_their_checkpoints_only_when_named(
    go, ledger, planned, record
):
    done, unfinished, running = planned[:3]
    for point in (done, unfinished, running):
        checkpoint(ledger, point)
        ledger.metrics.write(point.id, 1, {"step": 1})
    ledger.write_result(done.id, record())
    for point in (done, planned[3]):
        put(ledger, f"runs/{point.id}/weights.safetensors")
    start(ledger, running, ELSEWHERE)
    ledger.write_plan("{}", planned[3:])
    before = files(ledger)
    text = go(delete=True)
    assert files(ledger) == before
    assert "3 runs are no longer asked for" in text
    assert "2.5 kB, go with --others" in text
    for point in (done, unfinished, running):
        assert point.id in text
    go("others")
    assert files(ledger) == before
    go("others", delete=True)
    gone = {path for path in before if path not in files(ledger)}
    owners = {path.relative_to(ledger.folder).parts[1] for path in gone}
    assert owners == {done.id, unfinished.id}
    weights = {path for path in gone if path.name == "weights.safetensors"}
    assert weights == {ledger.folder / "runs" / done.id / "weights.safetensors"}
    assert all("checkpoints" in path.parts for path in gone - weights)


def test_a_trunk_keeps_its_end_until_that_is_asked_for(
    go, ledger, branched, manifest, record, trunk_record
):
    points = list(plan(branched, manifest).points)
    jobs = [planned_job.job for planned_job in arrange(points, (1, 1, 1, 1), trunks=True)]
    ledger.write_plan("{}", points, jobs)
    ledger.write_trunk(jobs[0].id, trunk_record(points[0].cluster_id, step=10))
    kept = put(ledger, f"jobs/{jobs[0].id}/checkpoints/10-1/state")
    unfinished = put(ledger, f"jobs/{jobs[1].id}/checkpoints/10-1/state")
    assert "Nothing in" in go("others", "trunks", delete=True)
    for point in points:
        ledger.write_result(point.id, record())
    assert "1 ends of trunks whose points are done, 500 bytes, go with --trunks" in go(delete=True)
    assert kept.exists()
    # What is suggested removes what was shown.
    assert " --trunks --delete` removes it." in go("trunks")
    go("trunks", delete=True)
    assert not kept.exists()
    assert unfinished.exists(), "a trunk that has not ended may be resumed"


TEMPORARY = (
    ("what a killed process was writing", f"runs/a/.result.json.{HEX}", 2 * DAYS, True),
    ("a clock probe", f".clock.{HEX}", 2 * DAYS, True),
    ("a manifest being written", ".manifest.json.0123abcd.tmp", 2 * DAYS, True),
    ("prepared data of a killed call", "data/.prepare-0123abcd/train.npy", 2 * DAYS, True),
    ("what may be being written", f"runs/a/.result.json.{HEX}", 0.9 * DAYS, False),
    ("data being prepared", "data/.prepare-0123abcd/train.npy", 0.9 * DAYS, False),
    ("the lock", ".lock", 2 * DAYS, False),
    ("another hidden file", "runs/a/.notes", 2 * DAYS, False),
    ("a visible file with such a name", f"runs/a/x.{HEX}", 2 * DAYS, False),
    ("a file among checkpoints", f"jobs/a/checkpoints/1-1/.x.{HEX}", 2 * DAYS, False),
    ("a log of a runner that lives", f"logs/worker-{os.getpid()}-0.log", 2 * DAYS, False),
    ("a log of today", "logs/worker-4999999-0.log", 0.9 * DAYS, False),
    ("a log of a runner that ended", "logs/worker-4999999-0.log", 2 * DAYS, True),
    ("another log", "logs/mine.log", 2 * DAYS, False),
)


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="needs /proc")
@pytest.mark.parametrize(
    ("name", "age", "goes"), [t[1:] for t in TEMPORARY], ids=[t[0] for t in TEMPORARY]
)
def test_temporary_files_and_logs_go_when_they_are_old(go, ledger, planned, name, age, goes):
    path = put(ledger, name, age=age)
    then = time.time() - age
    os.utime(path.parent, (then, then))
    before = files(ledger)
    assert (str(path.parent if "prepare" in name else path) in go()) is goes
    go(delete=True)
    assert path.exists() is not goes
    assert {p: d for p, d in before.items() if p != path} == {
        p: d for p, d in files(ledger).items() if p != path
    }


def test_a_folder_in_which_something_was_written_today_stays(go, ledger, planned):
    path = put(ledger, "data/.prepare-0123abcd/train.npy", age=3600.0)
    os.utime(path.parent, (1.0, 1.0))
    go(delete=True)
    assert path.exists()


def test_age_is_judged_by_the_storage_and_not_by_our_clock(go, ledger, planned, monkeypatch):
    path = put(ledger, f".clock.{HEX}", age=3600.0)
    monkeypatch.setattr(time, "time", lambda: 2e10)
    go(delete=True)
    assert path.exists()


def test_logs_stay_while_anybody_works_on_the_study(go, ledger, planned):
    path = put(ledger, "logs/worker-4999999-0.log", age=2 * DAYS)
    start(ledger, planned[0], ELSEWHERE)
    go(delete=True)
    assert path.exists()


def test_prepared_data_that_no_study_names_go_when_that_is_asked_for(go, ledger, planned):
    """What lies in the folder that all studies of a results folder share."""
    store, then = ledger.results / ".data", time.time() - 2 * DAYS
    texts = ledger.results / "texts"
    texts.mkdir()

    def source(name: str) -> TextFiles:
        for i in range(40):
            (texts / f"{name}{i}.txt").write_text(f"{name} {i} goes on " * 9)
        paths = (str(texts / f"{name}*.txt"),)
        return TextFiles(paths=paths, validation_fraction=0.3)

    def shared() -> set[str]:
        return {path.name for path in store.iterdir() if path.suffix != ".lock"}

    def mixture(name: str) -> Mixture:
        parts = (Part(name=name, source=source(name), weight=1.0),)
        return Mixture(parts=parts, tokenizer=TrainedBPE(vocab_size=270))

    others = Ledger(ledger.results, "others")
    prepare_study(ledger, [source("gone")], print)
    prepare_study(ledger, [mixture("lost")], print)
    unnamed = shared()
    asked = {ledger: [source("own"), source("axis")], others: [mixture("mixed")]}
    for study, sources in asked.items():
        prepare_study(study, sources, print)
    (store / ".prepare-0123abcd").mkdir()
    (store / ".prepare-0123abcd" / "train.npy").write_bytes(b"half")
    unnamed.add(".prepare-0123abcd")
    assert len(unnamed) == 4
    assert len(shared()) == 8
    assert "go with --data" not in go(delete=True), "it may be asked for in this moment"
    for path in (*store.rglob("*"), store):
        os.utime(path, (then, then))
    assert "4 prepared data that no study names, " in go(delete=True)
    assert len(shared()) == 8
    told = go("data", delete=True)
    assert all(str(store / name) in told for name in unnamed)
    assert shared().isdisjoint(unnamed)
    assert len(shared()) == 4
    for study, sources in asked.items():
        said = []
        prepare_study(study, sources, said.append)
        assert said == [], "what is named is there"
