# SPDX-License-Identifier: Apache-2.0
"""A law fitted to columns of anything: several targets, groups each by itself, rows weighted."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Real, Shaped

from scaling.approaches.diagnostics import require_points
from scaling.laws.fewest import SPARE_CONFIGURATIONS
from scaling.laws.law import Law
from scaling.laws.objectives import HUBER, Objective
from scaling.solve.problem import NO_CONSTRAINTS, Constraints, set_up
from scaling.solve.regression import Estimate, estimate
from scaling.solve.replicates import replicate
from scaling.tables.arrays import Array
from scaling.uncertainty.bootstrap_draws import scale_draws

Table = Mapping[str, Shaped[Array, " n"]]
ALL = ""
"""The group of a table that is not divided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How columns are fitted.

    Fields:
      constraints: of all targets; own: of single targets, in their place.
      tilt: rows weigh as their cost to this power: where the law is not exact, the dear rows tell
        more of what lies beyond them.
    """

    law: Law
    objective: Objective = HUBER
    constraints: Constraints = NO_CONSTRAINTS
    own: Mapping[str, Constraints] = field(default_factory=dict)
    tilt: float = 0.0

    def constraints_of(self, target: str) -> Constraints:
        return self.own.get(target, self.constraints)

    def n_free(self, target: str) -> int:
        """Parameters that are neither fixed nor tied."""
        settled = self.constraints_of(target)
        return len({*self.law.names} - {*settled.fixed, *settled.tied})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ColumnFit:
    """A law with parameters of its own for each group and target.

    Fields:
      targets: columns that are predicted. estimates: (group, target) -> minimum and certificate.
    """

    way: Way
    targets: tuple[str, ...]
    estimates: Mapping[tuple[str, str], Estimate]

    @property
    def is_certified(self) -> bool:
        return all(one.status.name == "CONVERGED" for one in self.estimates.values())

    def predict(
        self, table: Table, groups: Shaped[Array, " n"] | None = None
    ) -> Float[Array, "n T"]:
        """Targets at the rows of a table, one column for each.

        Raises:
          ValueError: for a group that was not fitted, or columns that are missing.
        """
        n = len(next(iter(table.values())))
        labels = np.full(n, ALL) if groups is None else np.asarray(groups, str)
        known = {group for group, _ in self.estimates}
        if unknown := sorted({*labels.tolist()} - known):
            raise ValueError(
                f"nothing was fitted to the group {unknown[0]!r}; groups are "
                f"{', '.join(sorted(known))}"
            )
        predicted = np.full((n, len(self.targets)), np.nan)
        for (group, target), found in self.estimates.items():
            rows = labels == group
            if rows.any():
                x = {name: values[rows] for name, values in table.items()}
                column = self.targets.index(target)
                predicted[rows, column] = found.law.predict(found.parameters, x)
        return predicted


def fit_columns(
    table: Table,
    way: Way,
    *,
    targets: tuple[str, ...] = (),
    groups: Shaped[Array, " n"] | None = None,
    cost: Real[Array, " n"] | None = None,
    spare: int = SPARE_CONFIGURATIONS,
) -> ColumnFit:
    """The certified minimum of each group and target, each from many starts.

    Args:
      table: numbers [n] by name: what the law reads, and the targets.
      targets: columns to predict; the law's own where none is named.
      groups: a label of each row; rows of one label are fitted together, with one form of law.
      cost: of each row, in any unit, where the way tilts.
      spare: different rows beyond the free parameters that each group must have.

    Raises:
      FitError: for a group with fewer.
      ValueError: for columns that are missing or hold what the law cannot read.
    """
    targets = targets or (way.law.target,)
    n = len(next(iter(table.values())))
    labels = np.full(n, ALL) if groups is None else np.asarray(groups, str)
    cost = np.ones(n) if cost is None else cost
    estimates = {}
    for group in np.unique(labels).tolist():
        rows = np.flatnonzero(labels == group)
        x = {name: np.asarray(values)[rows] for name, values in table.items()}
        for target in targets:
            estimates[group, target] = _fit(x, way, target, cost[rows], spare)
    return ColumnFit(way=way, targets=targets, estimates=estimates)


def _fit(x: Table, way: Way, target: str, cost: Array, spare: int) -> Estimate:
    law, constraints = way.law, way.constraints_of(target)
    if target not in x:
        raise ValueError(f"there is no column {target} to predict; there are {', '.join(x)}")
    read = law.read(x)
    for name, values in (*read.items(), (target, x[target])):
        if not np.all(np.isfinite(values)):
            plain = name.removeprefix("log_")
            how = "has no logarithm" if plain != name else "is not finite"
            raise ValueError(f"law {law.name} reads {plain}, which {how} in some rows")
    weights = (cost / np.exp(np.mean(np.log(cost)))) ** way.tilt
    problem = set_up(
        law, read, x[target], objective=way.objective, constraints=constraints, weights=weights
    )
    require_points(problem, spare)
    return estimate(problem, constraints)


def draw_parameters(
    fit: ColumnFit, n_draws: int, seed: int
) -> dict[tuple[str, str], Float[Array, "R P"]]:
    """Parameters [R, P] of each group and target, from residuals drawn anew.

    The rows are kept; residuals are inflated by the degrees of freedom that the fit used, and
    their scale is drawn as for Student's t. A replicate without a certified minimum is NaN.
    """
    rng = np.random.default_rng(seed)
    drawn = {}
    for key, found in fit.estimates.items():
        n, dof = len(found.residuals), max(len(found.residuals) - len(found.z), 1)
        fresh = rng.choice(found.residuals * np.sqrt(n / dof), size=(n_draws, n))
        fresh *= scale_draws(dof, n_draws, rng)[:, None]
        y = found.problem.y - found.residuals + fresh
        weights = np.broadcast_to(found.problem.weights, y.shape)
        drawn[key] = found.parameters_of(replicate(found, y, weights, n_starts=2).z)
    return drawn
