# SPDX-License-Identifier: Apache-2.0
"""Which approaches a grid can be answered with, before anything of it is trained. No JAX."""

import collections
from collections.abc import Iterator, Sequence

from experiments.plan.point import Point
from experiments.study.study import Study
from model.field_checks import is_real
from scaling.laws import fewest


def unanswerable(study: Study, points: Sequence[Point]) -> list[str]:
    """A sentence for each approach that these runs are too few for.

    Of a study whose axes have no numbers those of one kind are fitted: the kind with the most.
    """
    kinds = collections.defaultdict(list)
    for point in points:
        kinds[tuple(v for v in point.axes.values() if not is_real(v))].append(point)
    return list(_sentences(study, max(kinds.values(), key=len)))


def _sentences(study: Study, points: Sequence[Point]) -> Iterator[str]:
    sizes: dict[float, set[int]] = collections.defaultdict(set)
    n_runs: dict[float, int] = collections.Counter()
    for point in points:
        sizes[point.budget].add(point.params.total)
        n_runs[point.budget] += 1
    few = {
        budget: f"{budget:.3g} has {n_runs[budget]} at {len(sizes[budget])}"
        for budget in study.budgets
        if len(sizes[budget]) < fewest.PARABOLA_SIZES or n_runs[budget] < fewest.PARABOLA_RUNS
    }
    if len(study.budgets) - len(few) < fewest.PARABOLA_BUDGETS:
        said = f" ({', '.join(few.values())})" if few else ""
        yield (
            f"isoflop: parabolas at {len(study.budgets) - len(few)} budgets, it needs them at "
            f"{fewest.PARABOLA_BUDGETS}, each {fewest.PARABOLA_RUNS} runs at "
            f"{fewest.PARABOLA_SIZES} sizes{said}"
        )
    elif few:
        yield (
            f"isoflop: no parabola at {len(few)} of {len(study.budgets)} budgets, which needs "
            f"{fewest.PARABOLA_RUNS} runs at {fewest.PARABOLA_SIZES} sizes "
            f"({', '.join(few.values())})"
        )
    all_sizes = len(set().union(*sizes.values()))
    if all_sizes < fewest.ENVELOPE_SIZES:
        yield f"envelope: {all_sizes} sizes, it needs {fewest.ENVELOPE_SIZES}"
    n_configurations = len({(point.params.total, point.n_tokens) for point in points})
    for law, n_parameters in fewest.SURFACE_PARAMETERS.items():
        needed = n_parameters + fewest.SPARE_CONFIGURATIONS
        if n_configurations < needed:
            yield f"surface ({law}): {n_configurations} different (N, D), it needs {needed}"
