# SPDX-License-Identifier: Apache-2.0
"""make bench-design: FLOPs of a sequential design for the interval of a uniform grid.

Per problem and target: the width of the 95 % interval at ten times the largest budget that a
uniform isoFLOP grid reaches (median over repetitions); the FLOPs after which a sequential design
has it; random choice at the grid's FLOPs; and how often the intervals at the stop hold a planted
truth. Writes results/benchmarks/design.json, design.md and design.png.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TARGETS = ("loss", "n_params_opt", "exponent")
SHOWN = (("Hoffmann", "loss"), ("curved", "loss"), ("marin_comma", "n_params_opt"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3, help="of each row")
    parser.add_argument("--only", nargs="*", help="names of problems")
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    began = time.perf_counter()
    from experiments.benchmarks.design_page import write

    rows = []
    for problem in _problems(options):
        for target in TARGETS:
            rows.append(_row(problem, target, options.repetitions))
            shown = {k: rows[-1].get(k) for k in ("problem", "target", "spent", "spent_whole")}
            print(f"{time.perf_counter() - began:.0f} s {shown}", flush=True)
    write(options, rows, _trap(options), time.perf_counter() - began)


def _problems(options: Any) -> list[Any]:
    from experiments.benchmarks import design_problems as problems

    found = [problems.planted(one) for one in problems.PLANTED]
    found += [problems.table(options.results / "published", name) for name in problems.TABLES]
    return [p for p in found if not options.only or p.name in options.only]


def _row(problem: Any, target: str, n: int) -> dict[str, Any]:
    """One row of the table; with what the figure draws where it is drawn."""
    import numpy as np

    from experiments.benchmarks import design_rounds as rounds

    is_shown, is_table = (problem.name, target) in SHOWN, problem.truth is None
    whole = rounds.everything(problem, target) if is_table else None
    # Of a table every reading is of the form that all of its runs support: widths of one form.
    laws = (whole.law,) if whole else rounds.LAWS
    grids = [
        rounds.uniform(problem, target, seed=s, laws=laws)
        for s in range(max(n, len(problem.uniform)))
    ]
    goal = float(np.median([reading.width for reading in grids]))
    paths = [
        rounds.sequential(
            problem,
            target,
            0.0 if is_shown else min(goal, whole.width) if whole else goal,
            seed=s,
            stages=(*rounds.STAGES, *rounds.BEYOND_THE_GRID * is_table),
            laws=laws,
        )
        for s in range(n)
    ]
    ends = [_end(path, goal) for path in paths]
    thrown = [rounds.random(problem, target, 1.0, seed=s, laws=laws) for s in range(n)]
    row = {
        "problem": problem.name,
        "note": problem.note,
        "target": target,
        "goal_width": goal,
        "uniform_flops": problem.full,
        "uniform_runs": len(problem.uniform[0]),
        "uniform_covers": _count(grids),
        "spent": _spent(ends, problem.full),
        "runs_at_stop": int(np.median([end.n_runs for end in ends if end] or [0])),
        "covers": _count([end for end in ends if end]),
        "random_width": _finite(np.median([r.width for r in thrown]) / goal),
    }
    if whole:
        row["spent_whole"] = _spent([_end(path, whole.width) for path in paths], whole.flops)
        row["whole_width"], row["whole_runs"] = whole.width, whole.n_runs
    return row | ({"figure": _curves(problem, target, paths, laws)} if is_shown else {})


def _end(path: Sequence[Any], goal: float) -> Any:
    """The first reading that meets a goal, None where none does."""
    return next((reading for reading in path if reading.width <= goal), None)


def _spent(ends: Sequence[Any], full: float) -> list[float | None]:
    """FLOPs at each end over those of a grid, ascending, None last for those without an end."""
    found = sorted(float(end.flops / full) for end in ends if end)
    return [*found, *[None] * (len(ends) - len(found))]


def _count(readings: Sequence[Any]) -> list[int]:
    """How many intervals hold the truth, of how many that could."""
    known = [reading.covers for reading in readings if reading.covers is not None]
    return [sum(known), len(known)]


def _finite(value: float) -> float | None:
    return float(value) if value < 1e9 else None


def _curves(problem: Any, target: str, paths: list[Any], laws: Any) -> dict[str, Any]:
    """Median FLOPs and width of each way of choosing, for the figure."""
    import numpy as np

    from experiments.benchmarks.design_rounds import random, uniform

    def middle(readings: Sequence[Any]) -> tuple[float, float | None]:
        flops, width = (
            float(np.median([getattr(r, k) for r in readings])) for k in ("flops", "width")
        )
        return flops, _finite(width)

    seeds = range(len(paths))
    curves = {
        "design": [middle(step) for step in zip(*paths, strict=False)],
        "random": [
            middle([random(problem, target, share, seed=s, laws=laws) for s in seeds])
            for share in (0.25, 0.5, 1.0)
        ],
        "uniform grid": [middle([uniform(problem, target, seed=s, laws=laws) for s in seeds])],
    }
    return {name: [p for p in points if p[1] is not None] for name, points in curves.items()}


def _trap(options: Any) -> dict[str, Any]:
    """A curved truth, designed and fitted by believers in the additive form, and by us."""
    import numpy as np

    from experiments.benchmarks import design_problems as problems
    from experiments.benchmarks.design_rounds import sequential, uniform

    problem = problems.planted(problems.PLANTED[-1])
    found = {}
    for name, settings in (
        ("additive only", {"laws": ("additive",), "gamma_sd": 0.0}),
        ("gamma uncertain, form chosen by the data", {}),
    ):
        laws = {k: v for k, v in settings.items() if k == "laws"}
        grids = [uniform(problem, "loss", seed=s, **laws) for s in range(options.repetitions)]  # type: ignore[arg-type]
        goal = float(np.median([reading.width for reading in grids]))
        ends = [
            sequential(problem, "loss", goal, seed=s, **settings)[-1]  # type: ignore[arg-type]
            for s in range(options.repetitions)
        ]
        found[name] = {"uniform_covers": _count(grids), "covers": _count(ends)}
    return found


if __name__ == "__main__":
    main()
