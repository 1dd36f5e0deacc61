# SPDX-License-Identifier: Apache-2.0
"""What further points would spend, and what those that are there have spent: training FLOPs in the
study's convention. The jobs that would train a point are what it costs, so that a branch of a
trunk that is there costs its branch alone. Runs that train in packs are priced one by one.
"""

from collections.abc import Callable, Iterable, Sequence

from experiments.jobs import Piece, arrange
from experiments.ledger import Ledger
from experiments.point import Point
from experiments.study import Study

_ALONE = (1, 1, 1, 1)
HasTrunk = Callable[[str], bool]


def nothing(trunk_id: str) -> bool:
    """Of a study that has trained nothing."""
    return False


def pieces_of(
    study: Study, known: Sequence[Point], wanted: Sequence[Point], has_trunk: HasTrunk = nothing
) -> list[Piece]:
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
    study: Study, known: Sequence[Point], wanted: Sequence[Point], has_trunk: HasTrunk = nothing
) -> float:
    """What points spend together; as `pieces_of`."""
    return flops_of(study, pieces_of(study, known, wanted, has_trunk))


def prices(
    study: Study, known: Sequence[Point], left: Sequence[Point], has_trunk: HasTrunk = nothing
) -> list[float]:
    """What each further point would spend if it were the only one; as `pieces_of`."""
    of_cluster: dict[str, list[Point]] = {}
    for point in known:
        of_cluster.setdefault(point.cluster_id, []).append(point)
    return [
        price(study, of_cluster.get(point.cluster_id, ()), [point], has_trunk) for point in left
    ]


def flops_of(study: Study, pieces: Iterable[Piece]) -> float:
    """What jobs spend."""
    return sum(piece.flops[study.flops] for piece in pieces)


def spent(study: Study, ledger: Ledger, points: Sequence[Point]) -> float:
    """What points that have results, and the trunks that they begin with, have spent."""
    trunks = ledger.trunks({point.cluster_id for point in points}).values()
    total = sum(trunk["flops_spent"][study.flops] for trunk in trunks)
    for point in points:
        if (record := ledger.read_result(point.id)) is not None:
            # Records of an earlier version do not say: such runs were trained whole.
            total += record.get("flops_spent", point.flops)[study.flops]
    return total
