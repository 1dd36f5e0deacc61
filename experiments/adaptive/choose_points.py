# SPDX-License-Identifier: Apache-2.0
"""Which of the points that are left tell most for what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments.adaptive.prices import Charge, HasTrunk, planned_jobs_of, prices, training_flops
from experiments.plan.point import Point
from experiments.study.study import Study
from model.network.counts.total import FlopConvention

if TYPE_CHECKING:
    from scaling.design.posterior import LawPosterior
    from scaling.design.propose import Proposal
    from scaling.design.target import Target
    from scaling.tables.runs import Runs


def runs_of(points: Sequence[Point], convention: FlopConvention) -> Runs:
    """Points as runs that have no loss yet."""
    from scaling.tables.runs import Runs

    return Runs.from_columns(
        n_params=[point.params.total for point in points],
        n_tokens=[point.n_tokens for point in points],
        loss_nats=[math.nan] * len(points),
        flops=[point.flops[convention] for point in points],
        budget=[point.budget for point in points],
        run_id=[point.id for point in points],
        cluster_id=[point.cluster_id for point in points],
        flops_convention=convention,
    )


def aim(runs: Runs, name: str, flops: float) -> Target:
    """What is to be known better, at a training budget.

    Args:
      runs: all that there are or may be.

    Raises:
      ValueError: if there are none, or for a target that cannot be.
    """
    from scaling.design.target import Target

    if not len(runs):
        raise ValueError("no run is finished and none is left to plan: widen the study's budgets")
    return Target(name=name, flops=flops, low=float(runs.budget.min()))


def posterior_and_target(
    finished: Runs, planned: Runs, *, target: str, flops: float
) -> tuple[LawPosterior, Target]:
    """What the finished runs say of the law, and what is to be known better."""
    from scaling.design.outlook import joined
    from scaling.design.posterior import fit_posterior
    from scaling.design.prior import Prior

    both = joined(finished, planned)
    return fit_posterior(finished, Prior.published(both)), aim(both, target, flops)


def gains_alone(posterior: LawPosterior, target: Target, planned: Runs) -> list[float]:
    """What each run would tell by itself, as a share of what all would."""
    from scaling.design.propose import worth

    return worth(posterior, target, planned).tolist() if len(planned) else []


def choose_next(
    posterior: LawPosterior,
    target: Target,
    *,
    study: Study,
    known: Sequence[Point],
    left: Sequence[Point],
    has_trunk: HasTrunk,
    budget: float,
    rounds: int = 1,
    charge: Charge | None = None,
) -> tuple[Proposal, float]:
    """`scaling.design.propose.propose` of the points that are left, and what it spends in all.

    Branches of one new trunk cost less together than one by one: what that leaves of the budget is
    spent again.

    Args:
      known, has_trunk: as `prices.planned_jobs_of`.
      rounds: as `propose`; of several the first leaves most of the budget anyway.
      charge: what the budget is counted in: FLOPs if it is not given.

    Raises:
      ValueError: if the budget pays for no point.
    """
    from scaling.design.propose import propose

    charge = charge or training_flops(study)
    planned, rest = runs_of(left, study.flops), budget
    rows: tuple[int, ...] = ()
    new: set[str] = set()

    def is_there(trunk_id: str) -> bool:
        return trunk_id in new or has_trunk(trunk_id)

    while True:
        chosen = [left[row] for row in rows]
        cost = prices(study, [*known, *chosen], left, is_there, charge)
        proposal = propose(
            posterior, target, planned, np.array(cost), budget=rest, rounds=rounds, taken=rows
        )
        planned_jobs = planned_jobs_of(
            study, known, [left[row] for row in proposal.rows], has_trunk
        )
        new = {planned_job.job.id for planned_job in planned_jobs}
        spends = sum(map(charge, planned_jobs))
        rest = budget - spends
        is_same = proposal.rows == rows
        rows = proposal.rows
        others = [price for row, price in enumerate(cost) if row not in set(rows)]
        if is_same or rounds > 1 or not study.trunks or rest < min(others, default=math.inf):
            return proposal, spends
