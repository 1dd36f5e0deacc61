# SPDX-License-Identifier: Apache-2.0
"""How the activations of a coordinate check grow with width and depth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.checks.coordinates.cases import QUANTITIES, Case, Networks
from experiments.study.recipe import Recipe
from model.training.optimizers.parameterization import Parameterization
from scaling.hyperparameters.width_depth_growth import FLAT, Growth, growth


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Slope:
    """One quantity along one axis.

    Attributes:
      sizes: widths or depths, [S].
      finals, changes: its size at the end, and its change, [seeds, S].
      final, change: how they grow.
    """

    parameterization: Parameterization
    axis: str
    quantity: str
    sizes: tuple[int, ...]
    finals: np.ndarray
    changes: np.ndarray
    final: Growth
    change: Growth


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Answer:
    """What a coordinate check found."""

    recipe: Recipe
    networks: Networks
    cases: tuple[Case, ...]
    slopes: tuple[Slope, ...]

    @property
    def verdict(self) -> str:
        """A sentence on the recipe's own parameterisation."""
        own = self.recipe.parameterization
        judged = [
            (slope, name, found)
            for slope in self.slopes
            if slope.parameterization == own
            for name, found in (("size", slope.final), ("change", slope.change))
        ]
        moved = [
            f"{slope.quantity} {name} {found.verdict} with {slope.axis}"
            for slope, name, found in judged
            if found.verdict != "flat"
        ]
        told = f"recipe {self.recipe.name} ({own}): "
        if not moved:
            return f"{told}all {len(judged)} slopes are flat, |slope| < {FLAT:g}."
        return f"{told}{len(moved)} of {len(judged)} slopes are not flat: {'; '.join(moved)}."


def answer(recipe: Recipe, networks: Networks, cases: Sequence[Case]) -> Answer:
    """Fits every slope.

    Args:
      cases: of these networks, as `run_cases` gives them.
    """
    slopes = tuple(_slopes(recipe, networks, cases))
    return Answer(recipe=recipe, networks=networks, cases=tuple(cases), slopes=slopes)


def _slopes(recipe: Recipe, networks: Networks, cases: Sequence[Case]) -> Iterator[Slope]:
    known = {(case.parameterization, case.d_model, case.n_layers): case for case in cases}
    for parameterization in dict.fromkeys(case.parameterization for case in cases):
        for axis, shapes in networks.shapes(recipe.base).items():
            along = [known[(parameterization, *shape)] for shape in shapes]
            sizes = tuple(shape[axis == "depth"] for shape in shapes)
            for quantity in QUANTITIES:
                means = [case.means[quantity] for case in along]
                finals = np.array([[seed.final for seed in case] for case in means]).T
                changes = np.array([[seed.change for seed in case] for case in means]).T
                yield Slope(
                    parameterization=parameterization,
                    axis=axis,
                    quantity=quantity,
                    sizes=sizes,
                    finals=finals,
                    changes=changes,
                    final=growth(sizes, finals),
                    change=growth(sizes, changes),
                )
