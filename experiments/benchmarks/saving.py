# SPDX-License-Identifier: Apache-2.0
"""make bench-saving: one study run in every way that we have, on one machine: what each costs, and
whether the answers are the same.

Every way trains with the same compile cache, filled before; several steps per dispatch; one process
per core. Ways that need another one's answer come after it. What is not asked for (--only) is kept
as it was found before. Writes saving.json and .md, saving.svg and saving_frontiers.svg (and .png)
into results/benchmarks/.
"""

import argparse
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.benchmarks.saving_page import LAWS, draw, draw_frontiers, page
from experiments.cli.load_study import load_study
from experiments.executors.local_devices import cache_folder
from experiments.files.storage import replace_text
from experiments.ledger.ledger import Ledger
from experiments.machine.jax_setup import prepare_to_fit, start_jax
from experiments.machine.provenance import cpu_model, n_cores, software_facts
from experiments.plan.arrange import arrange
from experiments.plan.plan import plan
from experiments.plan.point import Point
from experiments.speed.calibration import learn
from experiments.study.overrides import override
from model.data.manifest import Manifest

# Stated before any run: below these the answers of two ways count as equal.
MARGIN_LOSS_NATS, MARGIN_LOG_N = 0.01, 0.10
PACK = 3  # The seeds of a point.
TARGET_FACTOR = 10.0  # Budget of the extrapolated answer, over the largest of the grid.
_MEASURED = "benchmark.json"
COSINE = (
    "trunks=false",
    "recipe.horizon_tokens_per_param=null",
    "recipe.optimizer.decay=cosine",
    "recipe.optimizer.learning_rate=1.0",
    "recipe.optimizer.warmup_fraction=0.15",
    "recipe.optimizer.decay_fraction=0.85",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """How a study is run.

    Attributes:
      name: in the table.
      overrides, options: of `isoflop run`; "{goal}" stands for the relative width that "alone"
        reached, in per cent.
    """

    name: str
    overrides: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


GOAL = (
    *("--until", "ci(n_params_opt) < {goal} %", "--target-flops", "{target}"),
    *("--per", "device-second"),
)
WAYS = (
    Way(name="cosine", overrides=COSINE),
    Way(name="alone", overrides=("trunks=false",)),
    Way(name="packed", overrides=("trunks=false",), options=("--pack", str(PACK))),
    Way(name="trunks"),
    Way(name="next", overrides=("trunks=false",), options=GOAL),
    Way(name="trunks and next", options=GOAL),
)
STUDIES = ("trunks", "trunks_zipf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="STUDY:WAY, comma separated; all without")
    text = "train nothing: read what the folders of the runs hold, and write the page"
    parser.add_argument("--collect", action="store_true", help=text)
    parser.add_argument("--warm", nargs="+", help="fill the compile cache: STUDY OVERRIDE ...")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--work", type=Path, default=Path("results/saving"), help="of the runs")
    options = parser.parse_args()
    if options.warm:
        return _warm(options.warm[0], options.warm[1:], options.work)
    folder = options.results / "benchmarks"
    found = _read(folder / "saving.json")
    asked = [word for word in options.only.split(",") if word]
    for study in STUDIES:
        for way in WAYS:
            name = f"{study}:{way.name}"
            if asked and name not in asked:
                continue
            ledger = Ledger(_results(options.work, way), study)
            if not options.collect:
                run(study, way, options.work, found.get(f"{study}:alone"))
            elif not (ledger.folder / _MEASURED).exists():
                continue
            found[name] = outcome(study, way, options.work)
            print(json.dumps({"name": name} | found[name]), flush=True)
            order = [f"{study}:{way.name}" for study in STUDIES for way in WAYS]
            record = {
                "command": "make bench-saving",
                "device": cpu_model(),
                "cores": n_cores(),
                "margins": {"loss_nats": MARGIN_LOSS_NATS, "log_n_params": MARGIN_LOG_N},
                "target_factor": TARGET_FACTOR,
                **software_facts(),
                "ways": {name: found[name] for name in order if name in found},
            }
            replace_text(folder / "saving.json", json.dumps(record, indent=1) + "\n")
    record = json.loads((folder / "saving.json").read_text())
    replace_text(folder / "saving.md", page(record))
    draw(record, folder)
    draw_frontiers(record, folder)
    print((folder / "saving.md").read_text())


def _read(path: Path) -> dict[str, dict[str, Any]]:
    return json.loads(path.read_text())["ways"] if path.exists() else {}


def _warm(name: str, overrides: list[str], work: Path) -> None:
    """Compiles every program of a study as a worker does, alone and as a pack of three."""
    start_jax([min(os.sched_getaffinity(0))], str(cache_folder()))
    from model.data.corpus import open_corpus
    from model.training.loop import train_pack

    study = override(load_study(name), overrides)
    ledger = Ledger(work, study.name)
    manifest = Manifest.read(ledger.manifest)
    corpus = open_corpus(manifest, ledger.data)
    programs = {
        planned_job.program: planned_job
        for planned_job in arrange(plan(study, manifest).points, study.mesh)
    }
    for planned_job in programs.values():
        spec = planned_job.points[0].spec
        schedule = replace(spec.train.schedule, n_steps=2, warmup_steps=1, decay_steps=1)
        config = replace(spec.train, schedule=schedule)
        for n_runs in (1, PACK):
            train_pack(spec.model, [config] * n_runs, corpus)


def _results(work: Path, way: Way) -> Path:
    return work / way.name.replace(" ", "-")


def run(
    study: str, way: Way, work: Path, alone: dict[str, Any] | None, *, fills_cache: bool = True
) -> None:
    """One study one way, from nothing but the data and the compile cache.

    Args:
      alone: `outcome` of the runs trained alone, for ways with a goal.
      fills_cache: whether to compile first what the way will need.
    """
    results = _results(work, way)
    options = []
    for word in way.options:
        if "{goal}" in word and alone is None:
            raise SystemExit(f"{study}:{way.name} asks for what {study}:alone reached: run it too.")
        goal = 100 * alone["goal_width"] if alone else 0.0
        target = alone["target_flops"] if alone else 0.0
        options.append(word.format(goal=f"{goal:.6g}", target=f"{target:.6g}"))
    command = [sys.executable, "-m", "experiments.cli.main"]
    where = ["--results", str(results)]
    shutil.rmtree(results / study, ignore_errors=True)
    subprocess.run([*command, "data", study, *where], check=True, stdout=subprocess.DEVNULL)
    if fills_cache:
        warm = [sys.executable, "-m", "experiments.benchmarks.saving", "--work", str(results)]
        subprocess.run([*warm, "--warm", study, *way.overrides], check=True)
    load, began = os.getloadavg()[0], time.perf_counter()
    log = subprocess.run(
        [*command, "run", study, *way.overrides, *where, *options],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    seconds = time.perf_counter() - began
    ledger = Ledger(results, study)
    (ledger.folder / "benchmark.log").write_text(log)
    measured = {"load_before": round(load, 1), "wall_seconds": round(seconds, 1)}
    (ledger.folder / _MEASURED).write_text(json.dumps(measured))


def outcome(study: str, way: Way, work: Path) -> dict[str, Any]:
    """What a finished study cost and what it answers."""
    prepare_to_fit()
    from scaling.answers.frontier import frontier
    from scaling.answers.goal import judge, target_interval
    from scaling.approaches.surface import fit_surface
    from scaling.tables.runs import read_runs

    ledger = Ledger(_results(work, way), study)
    points = [point for point in ledger.read_plan() if point.role == "grid"]
    with ledger.costs.open(newline="") as file:
        costs = list(csv.DictReader(file))

    def total(name: str) -> float:
        return sum(float(row.get(name) or 0) for row in costs)

    convention = points[0].convention
    runs = read_runs(ledger.table, flops=convention, params="total")
    budgets = list(load_study(study).budgets)
    top = budgets[-1]
    target = TARGET_FACTOR * top
    fits = {law: fit_surface(runs, law) for law in LAWS}
    # As `isoflop run --until` judges.
    forecaster = judge(list(fits.values()), "n_params_opt")
    estimate, ends = target_interval(forecaster, "n_params_opt", target)
    return json.loads((ledger.folder / _MEASURED).read_text()) | {
        "runs": len(points),
        "trunks": len(costs) - len(points),
        "device_seconds": round(total("device_seconds"), 1),
        "train_seconds": round(total("train_seconds"), 1),
        "compile_seconds": round(total("compile_seconds"), 1),
        "evaluate_seconds": round(total("evaluate_seconds"), 1),
        "flops_per_second": _speeds(ledger, points),
        "flops_attributed": sum(point.flops[convention] for point in points),
        "flops_spent": total(f"flops_spent_{convention}"),
        "table_sha256": _digest(ledger.table),
        "goal_width": (ends.upper - ends.lower) / estimate,
        "forecaster": forecaster.law,
        "budgets": budgets,
        "top_flops": top,
        "target_flops": target,
        "answers": {
            law: {
                "status": fit.status.name,
                "top": _answer(frontier(fit, top)),
                "target": _answer(frontier(fit, target)),
                "exponent_a": _exponent(fit),
                "frontier": _bands(frontier(fit, budgets)),
            }
            for law, fit in fits.items()
        },
    }


def _speeds(ledger: Ledger, points: list[Point]) -> dict[str, int]:
    """FLOP/s while training, by FLOPs per step; none where nothing took a second."""
    known = learn(ledger, points)
    speeds = known.flops_per_second if known else {}
    return {f"{flops:.6e}": round(speed) for flops, speed in speeds.items()}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _bands(front: Any) -> dict[str, dict[str, list[float]]]:
    return {
        name: {end: getattr(band, end).tolist() for end in ("value", "lower", "upper")}
        for name, band in (("n_params_opt", front.n_params_opt), ("loss", front.loss_opt))
    }


def _answer(front: Any) -> dict[str, Any]:
    """The only budget of a frontier."""
    ends = {name: {end: v[0] for end, v in band.items()} for name, band in _bands(front).items()}
    return {name: band | {"width": band["upper"] - band["lower"]} for name, band in ends.items()}


def _exponent(fit: Any) -> dict[str, float]:
    interval = fit.intervals["a"]
    return {"value": fit.exponent_a, "lower": interval.lower, "upper": interval.upper}


if __name__ == "__main__":
    main()
