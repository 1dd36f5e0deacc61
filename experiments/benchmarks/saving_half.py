# SPDX-License-Identifier: Apache-2.0
"""What chosen runs had answered within half of the device-seconds of all runs trained alone.

A goal on a study's own interval stops where that interval happens to be narrow. This asks the other
way round: half of the time is given, and the answer is compared.
"""

from __future__ import annotations

import csv
from typing import Any

import numpy as np

from experiments import strict_json
from experiments.fitting import prepare_to_fit
from experiments.ledger import Ledger
from experiments.sealed import unseal
from experiments.until import FILE

HALF = 0.5


def rounds_within(ledger: Ledger, seconds: float) -> tuple[list[str], float]:
    """The runs of the rounds that ended within so many device-seconds, the first in any case, and
    what they and their trunks took.

    A trunk counts in the first round that has a run of its size and seed which begins behind it.
    """
    data = ledger.storage.read(FILE)
    rounds = strict_json.loads(unseal(data) or "{}")["rounds"] if data else []
    points = {point.id: point for point in ledger.read_plan()}
    with ledger.costs.open(newline="") as file:
        left = {row["run_id"]: float(row["device_seconds"] or 0) for row in csv.DictReader(file)}
    trunks = ledger.trunks({point.cluster_id for point in points.values()})
    ids: list[str] = []
    total = 0.0
    for chosen in rounds:
        begins: dict[str, int] = {}
        for point in (points[name] for name in chosen):
            schedule = point.spec.train.schedule
            step = schedule.n_steps - schedule.decay_steps
            begins[point.cluster_id] = max(begins.get(point.cluster_id, 0), step)
        names = [
            *chosen,
            *(
                name
                for name, trunk in trunks.items()
                if any(trunk["step"] <= begins.get(one, -1) for one in trunk["clusters"])
            ),
        ]
        took = sum(left.pop(name, 0.0) for name in names)
        if ids and total + took > seconds:
            break
        ids += chosen
        total += took
    return ids, total


def half_time(ledger: Ledger, base: dict[str, Any], laws: tuple[str, ...]) -> dict[str, Any]:
    """What the runs of `rounds_within` half of the time of `base` answer at the top budget.

    Args:
      base: `saving.outcome` of the same study with every run trained alone.
    """
    prepare_to_fit()
    from scaling.frontier import frontier
    from scaling.runs import read_runs
    from scaling.surface import fit_surface

    ids, seconds = rounds_within(ledger, HALF * base["device_seconds"])
    convention = ledger.read_plan()[0].convention
    runs = read_runs(ledger.table, flops=convention, params="total")
    runs = runs.select(np.isin(runs.run_id, ids))
    tops = {law: frontier(fit_surface(runs, law, n_bootstrap=0), base["top_flops"]) for law in laws}
    return {
        "runs": len(ids),
        "device_seconds": round(seconds, 1),
        "answers": {
            law: {
                "top": {
                    "n_params_opt": {"value": float(top.n_params_opt.value[0])},
                    "loss": {"value": float(top.loss_opt.value[0])},
                }
            }
            for law, top in tops.items()
        },
    }
