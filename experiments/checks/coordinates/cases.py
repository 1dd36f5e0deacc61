# SPDX-License-Identifier: Apache-2.0
"""The networks of a coordinate check, and the sizes of their activations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from experiments.plan.point import Spec
from experiments.study.study import Study
from model.training.parameterization import Parameterization

QUANTITIES = ("embedding", "mixer", "channel_mixer", "residual", "logits")


# Of the validation split, on which activations are taken.
N_SEQUENCES = 4


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


def axis_shapes(study: Study, options: Any) -> dict[str, list[tuple[int, int]]]:
    """(d_model, n_layers) along each axis.

    Raises:
      ValueError: if an axis has one size only.
    """
    for name in ("widths", "depths"):
        if len(getattr(options, name)) < 2:
            raise ValueError(f"--{name} {getattr(options, name)[0]}: a slope needs two at least.")
    base = study.recipe.base
    return {
        "width": [(d_model, base.n_layers) for d_model in options.widths],
        "depth": [(base.d_model, n_layers) for n_layers in options.depths],
    }
