# SPDX-License-Identifier: Apache-2.0
"""A grid of real training, tiny, in processes of its own that may be killed."""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import command_line
import pytest
import small_studies

from experiments.cli.opening.load_study import load_study
from experiments.ledger.claims import Ending
from experiments.ledger.ledger import Ledger
from experiments.plan.arrange import arrange
from experiments.plan.plan import plan
from experiments.plan.point import to_json
from model.data.prepare import prepare

# A worker whose clock is wrong by so many seconds, or that runs since another boot: elsewhere.
DISGUISED = """
import runpy, sys, time
from experiments.ledger import owner
skew, boot = float(sys.argv.pop(1)), sys.argv.pop(1)
now, text = time.time, owner._text
time.time = lambda: now() + skew
owner._text = lambda path: boot if boot and path.endswith("boot_id") else text(path)
runpy.run_module("experiments.worker", run_name="__main__")
"""


@dataclass(frozen=True)
class Working:
    """A live attempt: its job and number, its process, and whether it has a checkpoint."""

    job: str
    number: int
    pid: int
    has_checkpoint: bool


class Grid:
    """`isoflop run` of the tiny study, and workers for its jobs, in processes of their own."""

    def __init__(self, folder: Path, cache: Path, name: str, *overrides: str):
        self.folder, self.cache, self.overrides = folder, cache, overrides
        self.ledger = Ledger(folder / name, "tiny")
        (folder / "tiny.py").write_text(small_studies.tiny())
        self.started: list[subprocess.Popen] = []

    def start(self, *command: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen:
        with (self.folder / f"stderr-{len(self.started)}").open("w") as stderr:
            process = subprocess.Popen(
                [*prefix, sys.executable, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
                env=command_line.environment(self.cache),
            )
        self.started.append(process)
        return process

    def run(self, *options: str) -> subprocess.Popen:
        """A runner."""
        where = ("--results", str(self.ledger.results), "--anyway")
        study = str(self.folder / "tiny.py")
        return self.start(
            "-m", "experiments.cli.main", "run", study, *self.overrides, *where, *options
        )

    def prepare(self) -> list[str]:
        """Writes data and plan; ids of the jobs, long ones first."""
        study = load_study(str(self.folder / "tiny.py"))
        self.ledger.data.mkdir(parents=True)
        manifest = prepare(study.data, self.ledger.data)
        manifest.write(self.ledger.manifest)
        points = plan(study, manifest).points
        jobs = [planned_job.job for planned_job in arrange(points, study.mesh)]
        self.ledger.write_plan(to_json(study), list(points), jobs)
        return [p.id for p in sorted(points, key=lambda p: -p.spec.train.schedule.n_steps)]

    def worker(
        self, job: str, *options: str, prefix: tuple[str, ...] = (), skew: float = 0, boot: str = ""
    ) -> subprocess.Popen:
        """A worker for one job, on any core; see DISGUISED."""
        root = ("--root", str(self.ledger.folder), "--job", job, "--cache", str(self.cache))
        return self.start("-c", DISGUISED, str(skew), boot, *root, *options, prefix=prefix)

    def ending(self, job: str, number: int) -> Ending:
        ending = self.ledger.job(job).ending(number)
        assert ending is not None
        return ending

    def said(self, process: subprocess.Popen) -> str:
        """What it wrote to its standard error."""
        return (self.folder / f"stderr-{self.started.index(process)}").read_text()

    def finish(self, process: subprocess.Popen, *codes: int) -> int:
        """Its exit code, one of ``codes``."""
        code = process.wait(timeout=600)
        assert code in codes, (code, self.said(process)[-3000:])
        return code

    def working(self) -> list[Working]:
        """The live attempts, as the ledger and the kernel have them."""
        found = []
        for folder in sorted(self.ledger.folder.glob("jobs/*")):
            job = self.ledger.job(folder.name)
            number = job.newest()
            owner = job.owner(number) if number else None
            is_over = job.ending(number) or self.ledger.has_result(folder.name)
            if owner is not None and not is_over and Path(f"/proc/{owner.pid}").exists():
                saved = list(folder.glob(f"checkpoints/*-{number}.sha256"))
                found.append(Working(folder.name, number, owner.pid, bool(saved)))
        return found

    def results(self) -> dict[str, tuple]:
        """Of each point what must be the same bits whatever happened; exactly one result each."""
        points = self.ledger.read_plan()
        assert points
        folders = {path.name for path in (self.ledger.folder / "runs").iterdir()}
        assert folders == {point.id for point in points}
        records = {point.id: self.ledger.read_result(point.id) for point in points}
        return {
            name: (record.status, record.loss_nats, record.curve, record.params_sha256)
            for name, record in records.items()
        }

    def tables(self) -> tuple[bytes, bytes]:
        return self.ledger.table.read_bytes(), self.ledger.curves.read_bytes()

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()


def wait_for(condition, what: str, seconds: float = 300.0):
    """The first true value of ``condition()``."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, f"{what} did not happen in {seconds} s"
        time.sleep(0.005)
    return value


@pytest.fixture
def patiently():
    return wait_for


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> Path:
    """Programs compiled once for all tests of a process."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def make_grid(tmp_path, compiled):
    """A grid of that name; its processes end with the test."""
    grids = []

    def make(name: str, *overrides: str) -> Grid:
        grids.append(Grid(tmp_path, compiled, name, *overrides))
        return grids[-1]

    yield make
    for grid in grids:
        grid.close()


@pytest.fixture(scope="session")
def calm_grid(tmp_path_factory, compiled) -> Grid:
    """The tiny study, undisturbed, by a runner with one worker (its flags move the last bits)."""
    grid = Grid(tmp_path_factory.mktemp("calm"), compiled, "calm")
    grid.finish(grid.run("--workers", "1"), 0)
    return grid


@pytest.fixture(scope="session")
def calm_digest(tmp_path_factory, compiled) -> str:
    """Of the parameters of its longest job, undisturbed, by a worker without a runner."""
    grid = Grid(tmp_path_factory.mktemp("calm"), compiled, "calm")
    job = grid.prepare()[0]
    grid.finish(grid.worker(job), 0)
    return grid.ledger.read_result(job).params_sha256
