# SPDX-License-Identifier: Apache-2.0
"""How wide the intervals of a planned study will be, said before anything is spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.adaptive.choose_points import runs_of
from experiments.plan.answerable import fitted_points
from experiments.plan.point import Point
from experiments.study.study import Study

if TYPE_CHECKING:
    from scaling.design.identifiability import Expected


def expected_answer(study: Study, points: Sequence[Point]) -> Expected | None:
    """At the study's largest budget, a forecast's included; None where no law is asked for."""
    fitted = fitted_points(points)
    if len({p.budget for p in fitted}) < 2 or len({p.params.total for p in fitted}) < 2:
        return None
    from scaling.design.identifiability import expected_intervals

    runs = runs_of(fitted, study.flops)
    try:
        return expected_intervals(runs, max(*study.budgets, *study.forecast_budgets))
    except ValueError:  # No published law has its optimum among these sizes.
        return None


def notices(found: Expected | None) -> list[str]:
    """What `isoflop plan` says of it: the numbers, then what the runs will not tell."""
    if found is None:
        return []
    return [found.sentence, *(f"may not answer: {sentence}." for sentence in found.findings)]
