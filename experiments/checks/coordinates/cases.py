# SPDX-License-Identifier: Apache-2.0
"""The networks of a coordinate check, and the sizes of their activations."""

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from experiments.plan.plan import plan
from experiments.plan.point import Spec
from experiments.plan.resolve import resolve_tokens
from experiments.study.study import Study
from model.data.manifest import Manifest
from model.training.optimizers.parameterization import (
    PARAMETERIZATIONS,
    BaseConstants,
    Parameterization,
)

QUANTITIES = ("embedding", "mixer", "channel_mixer", "residual", "logits")
# Of the validation split, on which activations are taken.
N_SEQUENCES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Networks:
    """What is trained: every width at the base depth, every depth at the base width.

    Attributes:
      widths, depths: d_model and layers, ascending.
      n_steps: of each. seeds: of each.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    n_steps: int
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("widths", "depths"):
            if len(getattr(self, name)) < 2:
                raise ValueError(f"--{name} {getattr(self, name)[0]}: a slope needs two at least.")

    def shapes(self, base: BaseConstants) -> dict[str, list[tuple[int, int]]]:
        """(d_model, n_layers) along each axis."""
        return {
            "width": [(d_model, base.n_layers) for d_model in self.widths],
            "depth": [(base.d_model, n_layers) for n_layers in self.depths],
        }


class Means(NamedTuple):
    """Of absolute values over a fixed batch: at initialisation, after the last step, and of the
    difference between the two."""

    initial: float
    final: float
    change: float


# Measures a run's activations, by quantity.
Measure = Callable[[Spec], Mapping[str, Means]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One network, and the sizes of its activations.

    Attributes:
      specs: of each seed; they differ in nothing else.
      means: by quantity, for each seed.
    """

    parameterization: Parameterization
    d_model: int
    n_layers: int
    specs: tuple[Spec, ...]
    means: dict[str, list[Means]]


def run_cases(
    study: Study, manifest: Manifest, *, networks: Networks, measure: Measure
) -> Iterator[Case]:
    """Measures every network of both axes under every parameterisation.

    Raises:
      ValueError: if the recipe has no network of such a width or depth.
    """
    n_tokens = statistics.median_low(point.n_tokens for point in plan(study, manifest).points)
    lines = networks.shapes(study.recipe.base).values()
    asked = dict.fromkeys(shape for line in lines for shape in line)
    planned: list[tuple[Parameterization, int, int, tuple[Spec, ...]]] = []
    for parameterization in PARAMETERIZATIONS:
        for d_model, n_layers in asked:
            changed = _with_depth(study, n_layers, parameterization)
            specs = tuple(
                _few_steps(changed, manifest, n_tokens, d_model, seed, networks.n_steps)
                for seed in networks.seeds
            )
            planned.append((parameterization, d_model, n_layers, specs))
    # Only now: what cannot be trained is refused before anything is.
    for parameterization, d_model, n_layers, specs in planned:
        found = [measure(spec) for spec in specs]
        yield Case(
            parameterization=parameterization,
            d_model=d_model,
            n_layers=n_layers,
            specs=specs,
            means={name: [means[name] for means in found] for name in QUANTITIES},
        )


def _with_depth(study: Study, n_layers: int, parameterization: Parameterization) -> Study:
    recipe = study.recipe.with_(
        shape__min_layers=n_layers, shape__max_layers=n_layers, parameterization=parameterization
    )
    return dataclasses.replace(study, recipe=recipe)


def _few_steps(
    study: Study, manifest: Manifest, n_tokens: int, d_model: int, seed: int, n_steps: int
) -> Spec:
    """The first steps of a run of so many tokens, at its peak rate.

    All networks get the same tokens, and so the same batch and moments.
    """
    point = resolve_tokens(study, manifest, n_tokens=n_tokens, d_model=d_model, seed=seed, axes={})
    train = point.spec.train
    schedule = dataclasses.replace(train.schedule, n_steps=n_steps, warmup_steps=0, decay_steps=0)
    return dataclasses.replace(point.spec, train=dataclasses.replace(train, schedule=schedule))
