# SPDX-License-Identifier: Apache-2.0
"""Set-up of a fit: the law, its data and the constraints on its parameters, as a `Problem`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float, Real

from scaling.laws.law import Law
from scaling.laws.objectives import HUBER, Objective
from scaling.tables.arrays import Array

# Coordinates no further from a bound are at it: rounding error of a step that ends there.
AT_BOUND = 1e-9
# Numbers in the columns of a law, and points, that suffice to tell its minima apart.
_EXPLORED, _FEWEST_EXPLORED = 16_384, 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is minimised, over coordinates z [F]: law and objective take `expand` z + `offset`.

    Fields:
      x: columns of the law, first axis n. y: observed, logarithms where the objective asks for
        them. weights. Both [n], or [S, n] to give each row of a batch its own.
      expand, offset: [P, F] and [P] or [S, P]; ties and fixed values live here.
      lower, upper: box of z, [F].
      delta: half-width of Huber's quadratic part; a row of a batch may have its own, [S].
    """

    law: Law
    objective: Objective
    x: Mapping[str, Array]
    y: Float[Array, "*rows n"]
    weights: Real[Array, "*_ n"]
    expand: Float[Array, "P F"]
    offset: Float[Array, "*_ P"]
    lower: Float[Array, " F"]
    upper: Float[Array, " F"]
    delta: float | Array

    @property
    def n_points(self) -> int:
        return int(self.y.shape[-1])

    @property
    def is_constant(self) -> Bool[Array, " F"]:
        """Free coordinates that move nothing but constant terms of the law."""
        others = [not parameter.is_constant for parameter in self.law.parameters]
        others += [True] * (len(self.expand) - len(others))
        return np.asarray(np.array(others, float) @ np.abs(self.expand) == 0)

    @property
    def is_weighted(self) -> bool:
        """Whether some points count more than others."""
        return bool(np.ptp(self.weights) > 0)

    def at_bounds(
        self, z: Float[Array, "*rows F"]
    ) -> tuple[Bool[Array, "*rows F"], Bool[Array, "*rows F"]]:
        """Which free coordinates are at their lower, and which at their upper bound."""
        return z <= self.lower + AT_BOUND, z >= self.upper - AT_BOUND

    def parameters_of(self, z: Float[Array, "*rows F"]) -> Float[Array, "*rows P"]:
        """Parameters of the law [..., P] from free coordinates [..., F]."""
        full = z @ self.expand.T + self.offset
        return self.law.to_parameters(full[..., : len(self.law.parameters)])

    def residuals(self, parameters: Float[Array, " P"]) -> Float[Array, " n"]:
        """Observed minus predicted, in the objective's space, [n]."""
        predicted = self.law.predict(parameters, self.x)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.y - (np.log(predicted) if self.objective.is_log else predicted)


def with_rows(problem: Problem, rows: Array) -> Problem:
    """The problem of some rows of a batch."""
    changes = {}
    for name, n_axes in (("y", 1), ("weights", 1), ("offset", 1), ("delta", 0)):
        values = np.asarray(getattr(problem, name))
        if values.ndim > n_axes:
            changes[name] = values[rows]
    return replace(problem, **changes)


def part_of(problem: Problem) -> Problem:
    """So many points of a large problem, drawn at random, that starts may explore it cheaply; the
    problem itself where it is no more than twice as large."""
    n_numbers = sum(np.asarray(column).size for column in problem.x.values())
    n = problem.n_points
    n_kept = max(_FEWEST_EXPLORED, _EXPLORED * n // n_numbers)
    if n <= 2 * n_kept:
        return problem
    rows = np.sort(np.random.default_rng(0).permutation(n)[:n_kept])
    return replace(
        problem,
        x={name: np.asarray(column)[rows] for name, column in problem.x.items()},
        y=problem.y[..., rows],
        weights=problem.weights[..., rows],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What is known of the parameters beforehand, in the paper's units.

    fixed: name -> value. tied: name -> the name whose value it shares. bounds: name -> (lower,
    upper), in place of the law's own box.
    """

    fixed: Mapping[str, float] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def leaves_nothing(self, law: Law) -> bool:
        """Whether every parameter is fixed or tied."""
        return {*self.fixed, *self.tied} >= {*law.names}

    def check(self, law: Law) -> None:
        """Raises ValueError for a name the law has not, or a value that cannot be."""
        named = [*self.fixed, *self.tied, *self.tied.values(), *self.bounds]
        unknown = [name for name in named if name not in law.names]
        if unknown:
            raise ValueError(
                f"law {law.name} has no parameter {', '.join(unknown)}; it has "
                f"{', '.join(law.names)}"
            )
        loops = [name for name in self.tied.values() if name in self.tied]
        if loops or set(self.fixed) & {*self.tied, *self.bounds}:
            raise ValueError(
                "a parameter is fixed, tied to a free one, or bounded, and only one of them: "
                f"fixed {dict(self.fixed)}, tied {dict(self.tied)}, bounds {dict(self.bounds)}"
            )
        for parameter in law.parameters:
            low, high = self.bounds.get(parameter.name, (parameter.lower, parameter.upper))
            value = self.fixed.get(parameter.name, parameter.upper)
            if not low < high or (parameter.is_positive and (low < 0 or value <= 0)):
                kind = "positive " if parameter.is_positive else ""
                is_fixed = parameter.name in self.fixed
                asked = f"fixed at {value:g}" if is_fixed else f"bounded by {low:g} to {high:g}"
                raise ValueError(
                    f"{parameter.name} of law {law.name} is a {kind}parameter: it cannot be {asked}"
                )


NO_CONSTRAINTS = Constraints()


def set_up(
    law: Law,
    x: Mapping[str, Array],
    y: Float[Array, " n"],
    *,
    objective: Objective = HUBER,
    constraints: Constraints = NO_CONSTRAINTS,
    weights: Real[Array, " n"] | None = None,
) -> Problem:
    """The problem of a law and its data.

    Args:
      x: columns of the table, first axis n. y: the target in its own units, [n].

    Raises:
      ValueError: for columns that are missing, constraints that cannot be, or a target that has
        no logarithm where the objective asks for one.
    """
    constraints.check(law)
    if constraints.leaves_nothing(law):
        raise ValueError(
            f"all {len(law.names)} parameters of law {law.name} are fixed or tied: nothing is left "
            "to fit. Leave one free."
        )
    if objective.is_log and not np.all(y > 0):
        raise ValueError(
            f"objective {objective.name} takes logarithms, and {law.target} has values down to "
            f"{np.min(y):g}; use raw-{objective.kind}"
        )
    columns = law.read(x)
    _require_rows(law, columns)
    expand, offset, leaders = _reduction(law, objective, constraints)
    boxes = [constraints.bounds.get(p.name, (p.lower, p.upper)) for p in law.parameters]
    lower = [float(p.coordinate(b[0])) for p, b in zip(law.parameters, boxes, strict=True)]
    upper = [float(p.coordinate(b[1])) for p, b in zip(law.parameters, boxes, strict=True)]
    if objective.has_scale:
        lower, upper = [*lower, -40.0], [*upper, 40.0]
    return Problem(
        law=law,
        objective=objective,
        x=columns,
        y=np.log(y) if objective.is_log else np.asarray(y, float),
        weights=np.ones(len(y)) if weights is None else weights,
        expand=expand,
        offset=offset,
        lower=np.array(lower)[leaders],
        upper=np.array(upper)[leaders],
        delta=objective.delta(1.0),
    )


def _require_rows(law: Law, columns: Mapping[str, Array]) -> None:
    """Raises ValueError where a row is predicted otherwise by itself than among the others."""
    ranges = [(1.0, 1.0) if p.is_amplitude else p.start for p in law.parameters]
    middle = [
        np.sqrt(low * high) if p.is_positive else 0.5 * (low + high)
        for p, (low, high) in zip(law.parameters, ranges, strict=True)
    ]
    alone = law.predict(middle, {name: values[:1] for name, values in columns.items()})
    if not np.allclose(alone, law.predict(middle, columns)[:1], rtol=1e-9, atol=0, equal_nan=True):
        raise ValueError(
            f"law {law.name} predicts a row otherwise by itself than among the others, as with the "
            "mean of a column: give such numbers as a column of their own"
        )


def _reduction(
    law: Law, objective: Objective, constraints: Constraints
) -> tuple[Array, Array, Array]:
    """Map from free coordinates to all of them, and the indices of the free ones."""
    n = len(law.parameters) + objective.has_scale
    leaders = [
        i
        for i, p in enumerate(law.parameters)
        if p.name not in constraints.fixed and p.name not in constraints.tied
    ]
    leaders += list(range(len(law.parameters), n))
    expand, offset = np.zeros((n, len(leaders))), np.zeros(n)
    expand[leaders, np.arange(len(leaders))] = 1.0
    for name, value in constraints.fixed.items():
        i = law.names.index(name)
        offset[i] = law.parameters[i].coordinate(value)
    for follower, leader in constraints.tied.items():
        expand[law.names.index(follower)] = expand[law.names.index(leader)]
    return expand, offset, np.array(leaders)
