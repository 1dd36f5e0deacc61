# SPDX-License-Identifier: Apache-2.0
"""Losses by how much of its window a prediction sees, of the runs that a figure shows."""

from collections.abc import Mapping, Sequence

from experiments.ledger.verdict import Verdict
from experiments.plan.point import Point
from experiments.report.fits.sweeps import label_axes
from scaling.tables.loss_curves import ContextCurve


def context_curves(
    points: Sequence[Point], verdicts: Mapping[str, Verdict]
) -> tuple[ContextCurve, ...]:
    """Of the run with the lowest loss at each budget of the grid; where the study has axes without
    numbers, of the best run of each of their settings at its largest budget.

    Runs that were made before these losses were kept have none.
    """
    best: dict[tuple[str, float], tuple[float, ContextCurve]] = {}
    for point in points:
        result = verdicts[point.id].result
        if point.role != "grid" or result is None or result.loss is None:
            continue
        bins, label = result.loss.by_context, " ".join(label_axes(point.axes))
        key = label, point.budget
        if bins and (key not in best or result.loss.nats < best[key][0]):
            curve = ContextCurve(
                label=label,
                budget=point.budget,
                least_seen=tuple(one.least_seen for one in bins),
                most_seen=tuple(one.most_seen for one in bins),
                losses=tuple(one.nats for one in bins),
            )
            best[key] = result.loss.nats, curve
    largest = dict(sorted(best))  # Of each setting the last budget.
    names = [*dict.fromkeys(label for label, _ in best)]
    return tuple(
        best[label, budget][1]
        for label, budget in sorted(best, key=lambda key: (names.index(key[0]), key[1]))
        if len(largest) == 1 or budget == largest[label]
    )
