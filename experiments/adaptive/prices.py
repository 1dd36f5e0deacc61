# SPDX-License-Identifier: Apache-2.0
"""What further points would spend, and what those that are there have spent: training FLOPs in the
study's convention, or device time. The jobs that would train a point are what it costs, so that a
branch of a trunk that is there costs its branch alone. Runs that train in packs are priced one by
one.
"""

import statistics
from collections.abc import Callable, Sequence

from experiments.cost.estimate import work
from experiments.ledger.ledger import Ledger
from experiments.plan.arrange import arrange
from experiments.plan.jobs import PlannedJob
from experiments.plan.point import Point
from experiments.speed import device_speed
from experiments.speed.calibration import learn, trained
from experiments.study.study import Study

_ALONE = (1, 1, 1, 1)
HasTrunk = Callable[[str], bool]
Charge = Callable[[PlannedJob], float]


def training_flops(study: Study) -> Charge:
    """What a job spends in training, in the study's convention."""
    return lambda planned_job: planned_job.flops[study.flops]


def device_seconds(ledger: Ledger, points: Sequence[Point]) -> Charge | None:
    """What a job holds a worker for, by what finished ones of these points took; None where nothing
    is known.

    Small networks train at a fraction of the speed of large ones, and short jobs spend much of
    their time in evaluations, and on what each job costs besides.
    """
    if (known := learn(ledger, points)) is None:
        return None
    speed = device_speed.here(known)
    costs = [record.costs for _, record in trained(ledger, points)]
    besides = [cost.wall_seconds - cost.train_seconds - cost.evaluate_seconds for cost in costs]
    # Of most jobs: the first of a program compiles it.
    usual = max(statistics.median(besides), 0.0)

    def seconds(planned_job: PlannedJob) -> float:
        done = work(planned_job)
        return usual + speed.seconds(done.flops + done.eval_flops, done.flops_per_step)

    return seconds


def nothing(trunk_id: str) -> bool:
    """Of a study that has trained nothing."""
    return False


def planned_jobs_of(
    study: Study, known: Sequence[Point], wanted: Sequence[Point], has_trunk: HasTrunk = nothing
) -> list[PlannedJob]:
    """The jobs of points that are trained in a study that grows (jobs.arrange).

    Args:
      known: points that are trained, or will be before.
      has_trunk: whether a trunk, by its id, is there.
    """
    ids = {point.id for point in wanted}
    return arrange(
        [*(point for point in known if point.id not in ids), *wanted],
        _ALONE,
        trunks=study.trunks,
        keeps_trunks=study.trunks,
        wanted=ids,
        has_trunk=has_trunk,
    )


def price(
    study: Study,
    known: Sequence[Point],
    wanted: Sequence[Point],
    has_trunk: HasTrunk = nothing,
    charge: Charge | None = None,
) -> float:
    """What points spend together; as `planned_jobs_of`. FLOPs if no other charge is given."""
    planned_jobs = planned_jobs_of(study, known, wanted, has_trunk)
    return sum(map(charge or training_flops(study), planned_jobs))


def prices(
    study: Study,
    known: Sequence[Point],
    left: Sequence[Point],
    has_trunk: HasTrunk = nothing,
    charge: Charge | None = None,
) -> list[float]:
    """What each further point would spend if it were the only one; as `price`."""
    of_cluster: dict[str, list[Point]] = {}
    for point in known:
        of_cluster.setdefault(point.cluster_id, []).append(point)
    return [
        price(study, of_cluster.get(point.cluster_id, ()), [point], has_trunk, charge)
        for point in left
    ]


def spent(study: Study, ledger: Ledger, points: Sequence[Point]) -> float:
    """What points that have results, and the trunks that they begin with, have spent."""
    trunks = ledger.trunks({point.cluster_id for point in points}).values()
    total = sum(trunk.flops_spent[study.flops] for trunk in trunks)
    for point in points:
        if (result := ledger.read_result(point.id)) is not None:
            total += result.flops_spent[study.flops]
    return total
