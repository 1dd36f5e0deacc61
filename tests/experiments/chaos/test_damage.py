# SPDX-License-Identifier: Apache-2.0
"""Every file of a ledger cut, emptied, deleted or with one bit flipped: never a wrong value.

Checkpoints have the same in tests/model/training/test_checkpoint.py.
"""

import dataclasses
import io
import os
import re
import shutil

import faulty_run
import msgspec
import pytest
from rich.console import Console

from experiments.ledger.ledger import Ledger
from experiments.ledger.owner import this_process
from experiments.operations.doctor import doctor
from experiments.train import attempt

# Of which damaged files a run itself speaks, by the state of the study; the others are not read
# then, or (metrics) their lines are counted. `isoflop doctor` names every one.
NAMED = {
    "half": r"job\.json|spec\.json|result\.json|manifest\.json|claims/000002|forecasts/",
    "finished": r"result\.json|(table|curves|costs)\.csv|report\.html|(finished|manifest|study)"
    r"\.json|plan\.jsonl|forecasts/",
}


@pytest.fixture
def me():
    """A process that the kernel knows to be dead as soon as it has ended: another each time."""
    return dataclasses.replace(this_process({}), pid=2**22 + 1)


@pytest.fixture
def run(points, manifest, me, monkeypatch):
    """Runs the study; of the power cuts that fsync is for there are none here."""
    monkeypatch.setattr(attempt, "device_facts", lambda: faulty_run.FACTS)
    monkeypatch.setattr(os, "fsync", lambda file: None)
    return lambda ledger: faulty_run.run(ledger, points[:2], manifest, me)


@pytest.fixture
def states(tmp_path, run, points, manifest, me, monkeypatch):
    """Folders of the study in the middle, and when it has ended."""
    half, calm = Ledger(tmp_path / "half", "small"), Ledger(tmp_path / "finished", "small")
    assert run(calm)[0] == 0
    second = points[1].id
    shutil.copytree(calm.folder, half.folder)
    for name in ("finished.json", "table.csv", "curves.csv", "costs.csv", "report.html"):
        (half.folder / name).unlink()
    # The second run lost its result: one attempt was preempted, another died in silence.
    (half.folder / "runs" / second / "result.json").unlink()
    # Weights that no result names have no digest: they are written again with the result.
    (half.folder / "runs" / second / "weights.safetensors").unlink()
    job = half.job(second)
    job.end(1, "preempted", "asked to stop", 1)
    assert job.claim(me, lease_seconds=100, max_attempts=3) == 2
    row = {"step": 1, "train_seconds": 1.0, "wall_seconds": 1.0, "resumed_at": 0}
    half.metrics.write(second, 2, row)
    return {"half": half, "finished": calm}


def outcome(ledger, points):
    records = [ledger.read_result(point.id) for point in points[:2]]
    same = {"costs": None, "provenance": None, "notes": ()}
    records = [msgspec.structs.replace(record, **same) for record in records]
    return records, ledger.table.read_bytes(), ledger.curves.read_bytes()


def damages(good: bytes, n_flips: int):
    yield from (good[: len(good) // 2], b"", None)
    for i in range(n_flips if good else 0):
        flipped = bytearray(good)
        flipped[i * len(good) // n_flips] ^= 1 << i % 8
        yield bytes(flipped)


def diagnosis(ledger):
    """What `isoflop doctor` says."""
    console = Console(file=io.StringIO(), width=10_000, markup=False)
    doctor("small", ledger, console)
    return console.file.getvalue()


def grow_old(folder):
    """The lease passes."""
    for path in [*folder.glob("jobs/*/hb/*"), *folder.glob("jobs/*/claims/*")]:
        os.utime(path, (0, 0))


def settle(ledger, run, path):
    """Runs until it is done, as a person would who does what is said; returns all that was said."""
    said = ""
    for _ in range(3):
        try:
            code, words = run(ledger)
        except ValueError as error:
            code, words = 2, str(error)
        said += words
        if code == 0:
            return said
        if code == 3:
            grow_old(ledger.folder)
        else:
            assert path.name in words, words
            assert re.search("Delete it|Write it again|Run the study again", words), words
            path.unlink()
    raise AssertionError(f"it does not end: {said}")


AS_HALF = pytest.mark.slow(reason="4 s, as of a ledger that is half done")


@pytest.mark.parametrize("state", ["half", pytest.param("finished", marks=AS_HALF)])
@pytest.mark.parametrize(
    "n_flips", [2, pytest.param(64, marks=pytest.mark.chaos)], ids=["in_short", "at_length"]
)
def test_a_damaged_ledger_gives_the_same_values_and_the_damage_is_named(
    states, run, points, tmp_path, state, n_flips, record_property
):
    good, calm = states[state], outcome(states["finished"], points)
    names = [path.relative_to(good.folder) for path in sorted(good.folder.rglob("*.*"))]
    names += [path.relative_to(good.folder) for path in sorted(good.folder.rglob("hb/*"))]
    n_damages = 0
    for name in (name for name in names if (good.folder / name).is_file()):
        content = (good.folder / name).read_bytes()
        for damaged in damages(content, n_flips):
            if damaged == content:
                continue
            ledger = Ledger(tmp_path / "damaged", "small")
            shutil.copytree(good.folder, ledger.folder)
            path = ledger.folder / name
            path.unlink() if damaged is None else path.write_bytes(damaged)
            # Metrics that lost their end look like those of a process that was killed.
            is_cut = len(damaged or b"") < len(content) and "metrics" in name.parts
            if damaged is not None and not is_cut and name.name != "report.html":
                assert name.as_posix() in diagnosis(ledger), (name, damaged)
            said = settle(ledger, run, path)
            assert outcome(ledger, points) == calm, (name, damaged)
            if damaged is not None and re.search(NAMED[state], name.as_posix()):
                assert name.as_posix().rpartition("small/")[2] in said or name.name in said, name
            if name.name == "result.json" and damaged:
                assert [p.read_bytes() for p in path.parent.glob("*.damaged-*")] == [damaged]
            shutil.rmtree(ledger.folder)
            n_damages += 1
    assert n_damages > 60
    record_property("damaged_files", len(names))
    record_property("damages", n_damages)


@pytest.mark.chaos
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_program_in_the_cache_is_compiled_again(make_grid, calm_digest, compiled, damage):
    """As a kill leaves it: JAX writes them in place."""
    grid = make_grid("cached")
    grid.cache = grid.folder / "torn"
    shutil.copytree(compiled, grid.cache)
    for path in grid.cache.iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else content)
    job = grid.prepare()[0]
    grid.finish(grid.worker(job), 0)
    assert grid.ledger.read_result(job).params_sha256 == calm_digest
