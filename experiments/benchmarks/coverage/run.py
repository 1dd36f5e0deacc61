# SPDX-License-Identifier: Apache-2.0
"""make bench-coverage: how often the intervals of simulated studies hold the truth.

Every study is drawn --simulations times and fitted by the surface and by Approach 2 with each
bootstrap; profiles of the likelihoods are judged at the truth itself. Counts are kept per study,
method, quantity and level, for the truth and, for Approach 2, for its pseudo-truth: what it says
of noise-free losses. Of studies without trunks one run beyond the grid is forecast. Writes
coverage.md and coverage_forecasts.md below results/benchmarks/; two to three hours on two cores.

--only studies whose names begin so, e.g. --only branched: pages are printed, not written. Some
--estimators: coverage.md is written with all but "forecast", coverage_forecasts.md with that one.
"""

import argparse
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from experiments.benchmarks.coverage.studies import STUDIES
from experiments.benchmarks.record import facts, made_by
from experiments.files.storage import replace_text

ESTIMATOR = "forecast"  # The one that has a page of its own.
# Simulations per task: long enough to fill batches, short enough to stop in time.
TASK = 200
# Studies of branches are drawn no more often than this: there are many, and standard errors of
# 1.3 points at 80 % suffice to see a method fail.
MOST_BRANCHED = 1000
# Of forecasts, which take a second each: in the first task of each study alone.
N_FORECASTS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument(
        "--replicates",
        type=int,
        default=39,
        help="40 k - 1 sets the ends of all levels on replicates",
    )
    text = (
        "the constants of scaling/uncertainty/bootstrap_draws.py were chosen on streams of seed 0"
    )
    parser.add_argument("--seed", type=int, default=1, help=text)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="beginnings of names of studies")
    every = ("surface", "approach 2", "approach 2, joint", "profile", ESTIMATOR)
    parser.add_argument("--estimators", nargs="*", choices=every, default=every)
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    began = time.perf_counter()
    # One thread per process: two that share two cores only wait for one another.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    studies = [s for s in STUDIES if not options.only or s.name.startswith(tuple(options.only))]
    if not studies:
        known = ", ".join(study.name for study in STUDIES)
        parser.error(f"--only {' '.join(options.only)}: no study begins so; studies: {known}")
    # Every study in turn: a run that is stopped has about as many simulations of each.
    first = options.seed * 10**6
    tasks = [
        (study.name, first + i, options.replicates, options.estimators)
        for i in range(-(-options.simulations // TASK))
        for study in studies
        if study.trunk is None or i * TASK < MOST_BRANCHED
    ]
    counts: Counter[Any] = Counter()
    for done, found in enumerate(_results(tasks, options.processes, began + options.seconds), 1):
        counts.update(found)
        elapsed = time.perf_counter() - began
        print(f"{done} of {len(tasks)} tasks, {elapsed:.0f} s", flush=True)
    about = (
        f"{made_by(facts('make bench-coverage', cores=options.processes))} "
        f"{time.perf_counter() - began:.0f} s; {options.replicates} replicates per interval, seed "
        f"{options.seed} (those of bootstrap_draws.py were chosen on seed 0)."
    )
    for name, text in _pages(counts, about).items():
        print(text)
        is_whole = name != "coverage" or {*every} - {*options.estimators} <= {ESTIMATOR}
        if not options.only and is_whole:
            replace_text(options.results / "benchmarks" / f"{name}.md", text)


def _pages(counts: Counter[Any], about: str) -> dict[str, str]:
    """By name, those that there are counts for."""
    from experiments.benchmarks.coverage import forecasts, page

    sides = {
        "coverage": Counter({k: v for k, v in counts.items() if k[1] != ESTIMATOR}),
        "coverage_forecasts": Counter({k: v for k, v in counts.items() if k[1] == ESTIMATOR}),
    }
    made = {"coverage": page.page, "coverage_forecasts": forecasts.page}
    return {name: made[name](side, about) for name, side in sides.items() if side}


def _results(tasks: list[Any], n_processes: int, deadline: float) -> Iterator[Counter[Any]]:
    """Counts of the tasks as they end; none is begun after the deadline."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_processes, mp_context=context) as pool:
        waiting: set[Future[Any]] = set()
        queue = iter(tasks)
        while True:
            while len(waiting) < 2 * n_processes and time.perf_counter() < deadline:
                task = next(queue, None)
                if task is None:
                    break
                waiting.add(pool.submit(_task, task))
            if not waiting:
                return
            ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ended:
                yield future.result()


def _task(task: tuple[str, int, int, list[str]]) -> Counter[Any]:
    from experiments.benchmarks.coverage.counts import count
    from experiments.benchmarks.coverage.forecasts import count_forecasts

    name, index, n_replicates, estimators = task
    study = next(study for study in STUDIES if study.name == name)
    counts = count(study, index, TASK, n_replicates, estimators)
    if ESTIMATOR in estimators and study.trunk is None and index % 10**6 == 0:
        counts.update(count_forecasts(study, index, N_FORECASTS))
    return counts


if __name__ == "__main__":
    main()
