# SPDX-License-Identifier: Apache-2.0
"""Optima and curvatures of single budgets about the power laws that a joint fit gives them.

Where budgets depart from the law more than their runs scatter, the law is a mean over budgets, and
what it says of others is as sure as the spread between budgets allows: each is taken for a draw of
a shift of ln N* and of a change of curvature, as studies are in a random-effects meta-analysis
(DerSimonian and Laird 1986). The variances are those of moments (Henderson 1953, method 3).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from scaling.tables.arrays import Array
from scaling.uncertainty.bootstrap_draws import scale_draws

# Chance, under the joint law, of a departure that counts. Rarer ones only, and intervals miss what
# is hardly seen; more, and those of clean studies grow (results/benchmarks/coverage.md).
_RARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Departure:
    """A departure that the runs show.

    Fields:
      ratio, chance: F, and its probability where there is none.
      place_sd, curvature_sd: between budgets, of ln N* and of kappa.
      residuals: weighted, of the runs about curves of each budget's own, [n]; n_absorbed:
        parameters of those.
    """

    ratio: float
    chance: float
    place_sd: float
    curvature_sd: float
    residuals: Float[Array, " n"]
    n_absorbed: int

    @property
    def sentence(self) -> str:
        return (
            "optima and curvatures of single budgets depart from power laws more than the runs "
            f"scatter (F = {self.ratio:.1f}, p = {self.chance:.1g}): "
        )

    def draws(
        self,
        slopes: Float[Array, "n P"],
        label: Int[Array, " n"],
        n_replicates: int,
        rng: np.random.Generator,
    ) -> Float[Array, "R n"]:
        """What other budgets of this kind would add to the log losses, to first order.

        Args:
          slopes: of log loss by kappa and the place of the optimum, in the first two columns.
        """
        n_budgets = int(label.max()) + 1
        # Two parameters of a power law; of two budgets only curvatures can differ from one.
        scale = scale_draws(max(n_budgets - 2, 1), n_replicates, rng)[:, None]
        bends, shifts = scale * rng.standard_normal((2, n_replicates, n_budgets))
        places = self.place_sd * shifts[:, label] * slopes[:, 1]
        return places + self.curvature_sd * bends[:, label] * slopes[:, 0]


def departure(
    residuals: Float[Array, " n"], slopes: Float[Array, "n P"], label: Int[Array, " n"]
) -> Departure | None:
    """That optima and curvatures of single budgets follow no power laws, where that is shown.

    A test of scores (Rao 1948): each budget gets a shift of its optimum and a change of its
    curvature, to first order, and F compares what that takes off the squares with what is left.

    Args:
      residuals, slopes: weighted; slopes by kappa come first, by the place of the optimum second.
      label: number of each run's budget, [n].
    """
    from scipy.special import fdtrc

    is_at = label[:, None] == np.arange(label.max() + 1)
    bends, places = slopes[:, :1] * is_at, slopes[:, 1:2] * is_at
    few, rest = _left(slopes, residuals)
    many, own = _left(np.concatenate([slopes, bends, places], axis=1), residuals)
    more, dof, squares = many - few, len(label) - many, float(own @ own)
    if more < 1 or dof < 1 or not squares > 0:
        return None
    variance = squares / dof
    ratio = max((float(rest @ rest) - squares) / more / variance, 0.0)
    chance = float(fdtrc(more, dof, ratio))
    if chance >= _RARE:
        return None

    def between(these: Array, others: Array) -> float:
        """Sd between budgets of what `these` columns change, the `others` free."""
        design = np.concatenate([slopes, others], axis=1)
        rank, without = _left(design, residuals)
        if rank == many:  # A law goes through two optima: nothing is left to see.
            return 0.0
        _, seen = _left(design, these)
        excess = float(without @ without) - squares - variance * (many - rank)
        return float(np.sqrt(max(excess, 0.0) / max(float(np.sum(seen**2)), 1e-300)))

    return Departure(
        ratio=ratio,
        chance=chance,
        place_sd=between(places, bends),
        curvature_sd=between(bends, places),
        residuals=own,
        n_absorbed=many,
    )


def _left(design: Array, columns: Array) -> tuple[int, Array]:
    """Rank of a design, and what it leaves of columns [n] or [n, K]."""
    scaled = design / np.maximum(np.linalg.norm(design, axis=0), 1e-300)
    solution, _, rank, _ = np.linalg.lstsq(scaled, columns, rcond=1e-9)
    return int(rank), columns - scaled @ solution
