# SPDX-License-Identifier: Apache-2.0
"""SQLite's method: a fault at every call that changes the disk, then a restart, the same result."""

import json
import os
import random
import shutil
import subprocess
import sys

import msgspec
import pytest

from experiments.ledger.forecasts import read_forecasts
from experiments.ledger.ledger import Ledger

# Gone or full: what an exit code may then be. A fault that was survived is no failure.
EXPECTED = {"eio": {0, 74}, "enospc": {0, 74}, "death": {99}, "torn": {99}, "result": {99}}


class Disk:
    """Runs of one study of two points, each with a fault; see faulty_run.py."""

    def __init__(self, folder, points, manifest):
        self.folder, self.points = folder, points
        asked = folder / "points.json"
        read = {"points": msgspec.to_builtins(points), "manifest": json.loads(manifest.to_json())}
        asked.write_text(json.dumps(read))
        with (folder / "stderr").open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "faulty_run", str(asked)],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self.calls = self.run("calm")
        self.calm = self.outcome("calm")

    def request(self, name, how="", at=0):
        words = {"results": str(self.folder / name), "how": how, "at": at}
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def run(self, name):
        answer = self.request(name)
        assert answer["code"] == 0, self.said()
        return answer["calls"]

    def said(self):
        return (self.folder / "stderr").read_text()[-3000:]

    def outcome(self, name):
        """All that must not depend on what happened: tables, and results without their costs."""
        ledger = Ledger(self.folder / name, "small")
        results = {p.id: ledger.read_result(p.id) for p in self.points}
        same = {"costs": None, "provenance": None}
        results = {n: msgspec.structs.replace(record, **same) for n, record in results.items()}
        found = [path.parent.name for path in ledger.folder.glob("runs/*/result.json")]
        assert sorted(found) == sorted(p.id for p in self.points)
        assert ledger.read_plan() == self.points
        assert [made.budget for made in read_forecasts(ledger)] == [1e13]
        return results, ledger.table.read_bytes(), ledger.curves.read_bytes()

    def survives(self, *faults):
        """One fault after another, each in a process of its own, and then an undisturbed run."""
        for how, at in faults:
            code = self.request("struck", how, at)["code"]
            assert code in EXPECTED[how] | {0}, (faults, code, self.said())
            assert how not in ("death", "torn", "result") or code or len(faults) > 1, faults
        self.run("struck")
        assert self.outcome("struck") == self.calm, faults
        shutil.rmtree(self.folder / "struck")


@pytest.fixture(scope="module")
def disks():
    """One per module: what is counted depends on nothing but the points."""
    made = []
    yield made
    for disk in made:
        disk.process.communicate()


@pytest.fixture
def disk(disks, tmp_path_factory, points, manifest):
    if not disks:
        disks.append(Disk(tmp_path_factory.mktemp("disk"), points[:2], manifest))
    return disks[0]


def test_the_run_makes_every_kind_of_call(disk):
    used = set(disk.calls)
    assert {"open", "write", "fsync", "link", "replace", "unlink", "mkdir"} <= used
    assert len(disk.calls) > 100


@pytest.mark.parametrize("how", ["eio", "enospc", "death", "torn"])
@pytest.mark.parametrize(
    "every", [13, pytest.param(1, marks=pytest.mark.chaos)], ids=["in_short", "at_length"]
)
def test_after_a_fault_at_any_call_a_restart_gives_the_same_result(
    disk, how, every, record_property
):
    """The ordinary suite takes a share of the calls, `make test-chaos` every one."""
    calls = range(1, len(disk.calls) + 1)
    at = [k for k in calls if how != "torn" or disk.calls[k - 1] == "write"]
    at = at[random.Random(how).randrange(every) :: every]
    for k in at:
        disk.survives((how, k))
    record_property("faults_injected", len(at))


def test_after_a_death_between_result_and_exit_the_result_stands(disk, record_property):
    for at in (1, 2):
        disk.survives(("result", at))
    record_property("faults_injected", 2)


@pytest.mark.chaos
def test_after_faults_in_a_row_a_restart_gives_the_same_result(disk, record_property):
    rng = random.Random(4)
    n_faults = 0
    for _ in range(300):
        hows = rng.choices(["eio", "enospc", "death", "torn"], k=rng.randint(2, 4))
        disk.survives(*((how, rng.randint(1, len(disk.calls))) for how in hows))
        n_faults += len(hows)
    record_property("faults_injected", n_faults)
