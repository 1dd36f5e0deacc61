# SPDX-License-Identifier: Apache-2.0
"""What runs of one size and seed have in common, and where each goes its own way. No JAX.

With warm-up, stable phase and decay (Hägele et al. 2024, arXiv:2405.18392), runs that differ in
length alone are the same run until the shortest one decays: a trunk, from which each branches where
its own decay begins. A trunk of so many steps is itself a run, one without a decay, and its
Spec and id are that run's. A branch is no approximation: it takes the very steps of the run
trained alone.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from experiments.plan.point import Point, Spec, spec_id
from experiments.study.changes import leaves
from experiments.study.recipe import Recipe
from scaling.tables.units import power

# Runs so many times as long as the horizon lose 0.01 to 0.02 nats by its decay, longer ones more,
# those of a ninth of it less (results/benchmarks/notes/recipes.md).
HORIZON_FACTOR = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """Points of one trunk, by the step where they leave it.

    Attributes:
      points: by that step, shortest runs first.
      leaves_at: the step of each.
      grows: whether points may come later that begin with this trunk: it is saved for them even
        where one point leaves it.
    """

    points: tuple[Point, ...]
    leaves_at: tuple[int, ...]
    grows: bool = False

    @property
    def segments(self) -> tuple[tuple[int, int], ...]:
        """(first, last) steps of the trunk's parts: it is saved wherever a point leaves it."""
        if len(self.points) == 1 and not (self.grows and has_plateau(self.points[0].spec)):
            return ()
        return tuple(pairwise((0, *sorted(set(self.leaves_at)))))


def trunk_spec(spec: Spec, until: int) -> Spec:
    """The run that a trunk of ``until`` steps is."""
    schedule = dataclasses.replace(spec.train.schedule, n_steps=until, decay_steps=0)
    return dataclasses.replace(spec, train=dataclasses.replace(spec.train, schedule=schedule))


def decay_begins(spec: Spec) -> int:
    """Steps before the first one whose rate is lowered."""
    return spec.train.schedule.n_steps - spec.train.schedule.decay_steps


def has_plateau(spec: Spec) -> bool:
    return decay_begins(spec) > max(spec.train.schedule.warmup_steps, 1)


def cluster_id(spec: Spec) -> str:
    """The same for all runs whose plateau is one: they share data, initial weights and noise."""
    if not has_plateau(spec):
        return spec_id(spec)
    return spec_id(trunk_spec(spec, max(spec.train.schedule.warmup_steps, 1)))


def grow(points: Iterable[Point], *, grows: bool = False) -> list[Tree]:
    """The points by their trunk, in the order of each one's first point."""
    together: dict[str, list[Point]] = {}
    for point in points:
        together.setdefault(cluster_id(point.spec), []).append(point)
    return [_tree(members, grows) for members in together.values()]


def _tree(points: Sequence[Point], grows: bool) -> Tree:
    ordered = sorted(points, key=lambda point: (decay_begins(point.spec), point.n_tokens))
    return Tree(
        points=tuple(ordered),
        leaves_at=tuple(decay_begins(point.spec) for point in ordered),
        grows=grows,
    )


def check_trunks(points: Sequence[Point]) -> None:
    """Refuses a plan in which runs of one size, seed and axes have no trunk in common.

    Raises:
      ValueError: it names what depends on the length of a run.
    """
    alike: dict[tuple, Point] = {}
    for point in points:
        key = (point.spec.model.d_model, point.seeds, tuple(sorted(point.axes.items())))
        first = alike.setdefault(key, point)
        if not has_plateau(point.spec):
            schedule = point.spec.train.schedule
            raise ValueError(
                f"trunks=True: at d_model {key[0]} and {power(point.budget)} FLOPs the decay "
                f"begins at step {decay_begins(point.spec)}, with the end of a warm-up of "
                f"{schedule.warmup_steps} steps: there is nothing to share. Lower "
                "recipe.optimizer.decay_fraction, or set trunks=False."
            )
        if cluster_id(first.spec) != cluster_id(point.spec):
            name, one, other = next(_differences(first.spec, point.spec))
            raise ValueError(
                f"trunks=True: at d_model {key[0]} {name} is {one:g} at {power(first.budget)} "
                f"FLOPs and {other:g} at {power(point.budget)}; on a trunk it cannot depend on the "
                "length of a run. Give the recipe a horizon "
                "(recipe.horizon_tokens_per_param=20), or set trunks=False."
            )


def beyond_horizon(points: Sequence[Point], recipe: Recipe) -> str:
    """A line where runs have the weight decay of a horizon that they go far beyond; else empty."""
    horizon = recipe.horizon_tokens_per_param
    if horizon is None or recipe.optimizer.weight_decay_falls:
        return ""
    high = horizon * HORIZON_FACTOR
    n_far = sum(point.n_tokens / point.params.total > high for point in points)
    if not n_far:
        return ""
    return (
        f"{n_far} of {len(points)} runs are longer than {HORIZON_FACTOR:g} times the recipe's "
        f"horizon of {horizon:g} tokens per parameter, whose weight decay they have: that cost "
        "small networks 0.01 to 0.05 nats. Set recipe.optimizer.weight_decay_falls=true, or let "
        f"sizes.tokens_per_param end at {high:.3g}."
    )


def _differences(one: Spec, other: Spec) -> Iterator[tuple[str, float, float]]:
    """Numbers on whose account two runs have no trunk in common."""
    at = max(one.train.schedule.warmup_steps, other.train.schedule.warmup_steps, 1)
    ours, theirs = (leaves(trunk_spec(spec, at)) for spec in (one, other))
    # What people think of first: rates and decays follow from these.
    for name in ("train.batch_size", "train.schedule.warmup_steps", *ours):
        if ours[name] != theirs[name]:
            yield name, ours[name], theirs[name]


@dataclass(frozen=True, kw_only=True, slots=True)
class Saving:
    """What a plan spends, and what its points would cost one by one, in training FLOPs.

    Attributes:
      attributed: sum over points of their whole runs: what fits use.
      spent: with each trunk trained once.
    """

    attributed: float
    spent: float

    @property
    def share(self) -> float:
        return 1 - self.spent / self.attributed


def saving(trees: Iterable[Tree]) -> Saving:
    """Over all trees, in each point's convention."""
    attributed = spent = 0.0
    for tree in trees:
        per_step = [
            point.flops[point.convention] / point.spec.train.schedule.n_steps
            for point in tree.points
        ]
        whole = [point.flops[point.convention] for point in tree.points]
        attributed += sum(whole)
        if tree.segments:
            decays = [point.spec.train.schedule.decay_steps for point in tree.points]
            spent += tree.leaves_at[-1] * per_step[-1]
            spent += sum(n * cost for n, cost in zip(decays, per_step, strict=True))
        else:
            spent += sum(whole)
    return Saving(attributed=attributed, spent=spent)
