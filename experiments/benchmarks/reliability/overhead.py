# SPDX-License-Identifier: Apache-2.0
"""What the ledger and the runner cost per run, and how soon a finished study has its answer.

A thousand runs go from the plan through one worker process to the tables; the worker's trainer
returns at once (stand_in_worker.py), so all of the time is ours.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.cli.load_study import load_study
from experiments.executors.local_devices import Workers
from experiments.ledger.ledger import Ledger
from experiments.ledger.tables import collate
from experiments.plan.arrange import arrange
from experiments.plan.plan import plan
from experiments.plan.point import to_json
from experiments.report import finished
from experiments.report.missing_runs import ALLOWED
from experiments.train.runner import run_planned_jobs
from model.data.prepare import prepare

STUDY = """
from dataclasses import replace
from experiments.studies.quickstart import STUDY
from experiments.study.study import Ladder
from model.data.source import Zipf
STUDY = replace(
    STUDY, name="overhead", budgets=(1e11,), seeds=tuple(range({seeds})), forecast_budgets=(),
    sizes=Ladder(d_models=(16, 24), tokens_per_param=(0.1, 1e5)), seq_len=16,
    data=Zipf(alpha=0.5, epsilon=0.1, base=8, n_digits=2, n_answers=1, language_seed=0),
)
"""


class _Silent:
    """A display that shows nothing."""

    def progress(self, *_: Any) -> None: ...

    def done(self, *_: Any) -> None: ...

    def failed(self, *_: Any) -> None: ...

    def elsewhere(self, *_: Any) -> None: ...


def measure(n_runs: int = 1000, n_repeats: int = 5) -> dict[str, float]:
    """Milliseconds per run of each part, and seconds of `isoflop run` on the finished study."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "overhead.py"
        file.write_text(STUDY.format(seeds=n_runs // 2))
        study = load_study(str(file))
        ledger = Ledger(folder / "results", study.name)
        ledger.data.mkdir(parents=True)
        manifest = prepare(study.data, ledger.data)
        manifest.write(ledger.manifest)
        points = list(plan(study, manifest).points)
        planned_jobs = arrange(points, study.mesh)
        jobs = [planned_job.job for planned_job in planned_jobs]
        module = (sys.executable, "-m", "experiments.benchmarks.reliability.stand_in_worker")
        one = Workers(cores=((),), command=module)
        seconds = {
            "start": _timed(
                lambda: subprocess.run([*module, "--help"], check=True, capture_output=True)
            )
        }
        seconds["plan"] = _timed(lambda: ledger.write_plan(to_json(study), points, jobs))
        work = _timed(lambda: run_planned_jobs(ledger, planned_jobs, study.mesh, one, _Silent()))
        seconds["run"] = work - seconds.pop("start")
        seconds["collate"] = _timed(lambda: collate(ledger, points))
        assert len(ledger.table.read_text().splitlines()) == len(points) + 1
        ledger.report.write_text("stands for a report")
        finished.remember(ledger, study, points, points, "the answer", ALLOWED)
        command = [sys.executable, "-m", "experiments.cli.main", "run", str(file)]
        command += ["--results", str(ledger.results)]
        again = [_timed(lambda: _answers(command)) for _ in range(n_repeats)]
    each = {f"{name}_ms_per_run": round(1e3 * s / len(points), 2) for name, s in seconds.items()}
    return {
        "runs": len(points),
        **each,
        "overhead_ms_per_run": round(1e3 * sum(seconds.values()) / len(points), 2),
        "finished_study_seconds": round(statistics.median(again), 2),
        "load_average": round(os.getloadavg()[0], 1),
    }


def _timed(what: Callable[[], Any]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def _answers(command: list[str]) -> None:
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said == "the answer\n", said


if __name__ == "__main__":
    print(measure())
