# SPDX-License-Identifier: Apache-2.0
"""make bench-scalebench: laws chosen on cheap training rows, judged in the target region.

`python -m experiments.benchmarks.scalebench.run choose` writes scalebench_choices.json from the
training rows alone; `... score` fits what was chosen and reads the target rows. Both write below
results/benchmarks/.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.benchmarks.record import FOLDER, facts, write
from experiments.benchmarks.scalebench.choose import choose, named
from experiments.benchmarks.scalebench.page import page
from experiments.benchmarks.scalebench.tasks import TASKS, Task
from experiments.files.storage import replace_text
from experiments.machine.jax_setup import prepare_to_fit
from scaling.answers.extrapolation import r_squared
from scaling.approaches.columns import Way, fit_columns

CHOICES = FOLDER / "scalebench_choices.json"
COMMAND = "make bench-scalebench"


def main() -> None:
    prepare_to_fit()
    match sys.argv[1:]:
        case ["choose", *names]:
            _choose(names)
        case ["score"]:
            _score()
        case _:
            sys.exit("usage: python -m experiments.benchmarks.scalebench.run choose|score")


def _choose(names: list[str]) -> None:
    """Of the tasks named, or of all; the others stay as they are."""
    for task in TASKS:
        if not names or task.name in names:
            found = choose(task)
            print(task.name, found["named"], found["held_out_r2"], flush=True)
            known = json.loads(CHOICES.read_text()) if CHOICES.exists() else {}
            known[task.name] = found
            ordered = {one.name: known[one.name] for one in TASKS if one.name in known}
            replace_text(CHOICES, json.dumps(ordered, indent=1) + "\n")


def _score() -> None:
    choices = json.loads(CHOICES.read_text())
    record = facts(COMMAND) | {
        "tasks": {
            task.name: scored(task, choices[task.name]) for task in TASKS if task.name in choices
        }
    }
    write("scalebench", record, page(record, choices))
    print(page(record, choices))


def scored(task: Task, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """R2 in the target region of what was chosen; the hold-out alone where it is not here."""
    found: dict[str, Any] = {"held_out_r2": chosen["held_out_r2"], "named": chosen["named"]}
    if not task.has_target:
        return found
    n = chosen["rows"]
    way = _way(task.ways, chosen["named"])
    found["all_rows"] = target_r2(task, way, np.arange(n))
    found["budgets"] = {
        share: -1.0
        if one["named"] is None
        else target_r2(task, _way(task.plain, one["named"]), np.array(one["rows"]), spare=0)
        for share, one in chosen["budgets"].items()
    }
    return found


def _way(ways: list[Way], wanted: Mapping[str, Any]) -> Way:
    return next(way for way in ways if named(way) == wanted)


def target_r2(task: Task, way: Way, rows: np.ndarray, **settings: Any) -> float:
    """Over the target rows of all groups, from these training rows."""
    table, labels = task.read("train")
    cost = task.cost(table)
    kept = {name: values[rows] for name, values in table.items()}
    fit = fit_columns(
        kept, way, targets=task.targets, groups=labels[rows], cost=cost[rows], **settings
    )
    out, out_labels = task.read("test")
    observed = np.stack([out[name] for name in task.targets], axis=1)
    return r_squared(observed, fit.predict(out, out_labels))


if __name__ == "__main__":
    main()
