# SPDX-License-Identifier: Apache-2.0
"""The points that may be chosen next: those of the studies that are like a study.

The study's budgets, those half-way between them and up to one step above them; at each the sizes of
its rule; its seeds and two more. Nothing lies below the study's lowest budget: by any law cheap
runs tell most per FLOP, and there it holds least.
"""

import dataclasses
import itertools
import math

from experiments.plan.plan import plan
from experiments.plan.point import Point
from experiments.study.study import Ladder, LogSpaced, Study
from model.data.manifest import Manifest

NEW_SEEDS = 2


def family(study: Study, manifest: Manifest, most: float) -> list[Point]:
    """The points that a study of this kind could have, each of at most so many FLOPs.

    Budgets at which no size can be trained are left out.
    """
    points: list[Point] = []
    seeds = sorted({seed for seeds in study.seeds_per_budget for seed in seeds})
    seeds += [seeds[-1] + 1 + i for i in range(NEW_SEEDS)]
    for budget in _budgets(study, most):
        for sizes in _finer(study.sizes):
            one = dataclasses.replace(
                study, budgets=(budget,), seeds=(tuple(seeds),), sizes=sizes, forecast_budgets=()
            )
            try:
                points += plan(one, manifest).points
                break
            except ValueError:  # Fewer widths than sizes asked for, or nothing can be trained.
                continue
    return [point for point in points if point.flops[study.flops] <= most]


def _budgets(study: Study, most: float) -> list[float]:
    """The study's, those half-way in logarithm, and half a step and a step above them."""
    own = study.budgets
    ratios = [b / a for a, b in itertools.pairwise(own)] or [math.sqrt(10.0)]
    between = [a * math.sqrt(r) for a, r in zip(own, ratios, strict=False)][: len(own) - 1]
    above = [own[-1] * math.sqrt(ratios[-1]), own[-1] * ratios[-1]]
    return sorted(budget for budget in (*own, *between, *above) if budget <= 1.01 * most)


def _finer(sizes: Ladder | LogSpaced) -> list[Ladder | LogSpaced]:
    """The rule with sizes half-way between its own, then the rule itself."""
    if not isinstance(sizes, LogSpaced):
        return [sizes]
    return [dataclasses.replace(sizes, n_sizes=2 * sizes.n_sizes - 1), sizes]
