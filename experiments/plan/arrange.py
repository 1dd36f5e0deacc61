# SPDX-License-Identifier: Apache-2.0
"""Which jobs compute a set of points. No JAX."""

from collections.abc import Callable, Container, Iterator, Sequence

from experiments.plan.jobs import Job, PlannedJob, ending_job, program, trunk_id
from experiments.plan.point import Point
from experiments.plan.trunks import Tree, grow


def arrange(
    points: Sequence[Point],
    mesh: tuple[int, ...],
    *,
    trunks: bool = False,
    keeps_trunks: bool = False,
    wanted: Container[str] | None = None,
    has_trunk: Callable[[str], bool] = lambda trunk: False,
    pack_size: Callable[[Point], int] = lambda point: 1,
) -> list[PlannedJob]:
    """The jobs that compute the points, parents before those that begin from them.

    Args:
      points: all that are asked for.
      mesh: sizes of the mesh axes of a run.
      trunks: whether points that begin alike do so together.
      keeps_trunks: whether points may come later that begin with what a single one does.
      wanted: ids of the points to be computed now; None for all.
      has_trunk: whether a trunk, by its id, need not be trained any more.
      pack_size: how many runs of a point's shape are best trained together.

    Raises:
      ValueError: if runs are left over where the mesh's axis "run" has several places.
    """
    if trunks:
        trees = grow(points, grows=keeps_trunks)
    else:
        trees = [Tree(points=(point,), leaves_at=(0,)) for point in points]
    planned_jobs: list[PlannedJob] = []
    for pack in _packs(trees, wanted, pack_size):
        if len(pack) % mesh[0]:
            model = pack[0].points[0].spec.model
            raise ValueError(
                f"{len(pack)} runs of one shape (d_model {model.d_model}) do not fill the "
                f"{mesh[0]} places of the mesh's axis run: ask for a multiple of {mesh[0]} seeds, "
                "or set mesh=1,1,1,1."
            )
        planned_jobs += _planned_jobs(pack, wanted, has_trunk)
    return planned_jobs


def _packs(
    trees: Sequence[Tree], wanted: Container[str] | None, pack_size: Callable[[Point], int]
) -> Iterator[list[Tree]]:
    """Trees of one shape together: same program, same lengths, same branches still to come."""
    alike: dict[tuple, list[Tree]] = {}
    for tree in trees:
        left = tuple(n for n, point in enumerate(tree.points) if _is_wanted(point, wanted))
        if left:
            lengths = tuple(point.spec.train.schedule.n_steps for point in tree.points)
            data = tree.points[0].spec.data_fingerprint  # Others may have other domains.
            key = (*program(tree.points[0]), data, lengths, tree.leaves_at, left)
            alike.setdefault(key, []).append(tree)
    for group in alike.values():
        size = pack_size(group[0].points[0])
        for first in range(0, len(group), size):
            yield group[first : first + size]


def _is_wanted(point: Point, wanted: Container[str] | None) -> bool:
    return wanted is None or point.id in wanted


def _planned_jobs(
    pack: list[Tree], wanted: Container[str] | None, has_trunk: Callable[[str], bool]
) -> Iterator[PlannedJob]:
    """The segments of a pack's trunk that are needed, then its branches, longest first."""
    first = pack[0]
    asked = [n for n, point in enumerate(first.points) if _is_wanted(point, wanted)]
    needed: list[PlannedJob] = []
    reach = max(first.leaves_at[n] for n in asked)
    is_needed = False
    for begins, ends in reversed([s for s in first.segments if s[1] <= reach]):
        # By a branch that leaves here, or by the next segment.
        is_needed = is_needed or any(first.leaves_at[n] == ends for n in asked)
        is_needed = is_needed and not has_trunk(_trunk_id(pack, ends))
        if is_needed:
            needed.append(_trunk(pack, begins, ends))
    yield from reversed(needed)
    for n in reversed(asked):
        members = tuple(tree.points[n] for tree in pack)
        begins = first.leaves_at[n] if first.segments else 0
        parent = _trunk_id(pack, begins) if begins else None
        yield ending_job(members, parent, begins)


def _trunk(pack: list[Tree], begins: int, ends: int) -> PlannedJob:
    points = tuple(tree.points[-1] for tree in pack)
    job = Job(
        id=_trunk_id(pack, ends),
        kind="trunk",
        members=tuple(point.id for point in points),
        parent=_trunk_id(pack, begins) if begins else None,
        steps=(begins, ends),
    )
    return PlannedJob(job=job, points=points)


def _trunk_id(pack: list[Tree], until: int) -> str:
    return trunk_id([tree.points[-1] for tree in pack], until)
