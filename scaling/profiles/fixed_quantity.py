# SPDX-License-Identifier: Apache-2.0
"""One quantity of a fitted law as a free coordinate, so that it can be fixed at a value.

A parameter is one already. a, N*(C), D*(C) and L*(C) become one in another form of the same law,
see `optimum_form`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.approaches.surface.fit import problem_of
from scaling.approaches.surface.optimum import chord_exponents
from scaling.fit import Fit, FitError
from scaling.laws.law import Law
from scaling.laws.objectives import objective_named
from scaling.laws.registry import law_named
from scaling.laws.size_ladder import Ladder
from scaling.profiles.optimum_form import optimum, pieces, with_exponent, with_optimum
from scaling.solve.problem import Constraints, set_up
from scaling.solve.regression import Estimate, estimate, slopes
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs

OF_OPTIMUM = ("n_params_opt", "n_tokens_opt", "loss_opt")


EXPONENTS = ("a", "b")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FixedQuantity:
    """A quantity that is one free coordinate of a law.

    Fields:
      found: the fit, written in the law that has the quantity as a parameter. original: the fit
        as it was asked for; the same for a parameter.
      index: of the coordinate among the free ones.
      log: whether the coordinate is the quantity's logarithm.
      mirror: what is asked for where that is a map of what is fixed: "b" = 1 - a, or
        "n_tokens_opt" = C/f(N*); otherwise empty.
      spread: rough standard error of the coordinate; path: change of the others with it, [F - 1].
    """

    found: Estimate
    original: Estimate
    index: int
    log: bool
    mirror: str
    flops: float
    ladder: Ladder | None
    spread: float
    path: Float[Array, " F"]

    @property
    def at(self) -> float:
        """The coordinate at the minimum."""
        return float(self.found.z[self.index])

    @property
    def box(self) -> tuple[float, float]:
        problem = self.found.problem
        return float(problem.lower[self.index]), float(problem.upper[self.index])

    def value(self, at: Array) -> Array:
        """The quantity that was asked for, from its coordinate."""
        with np.errstate(over="ignore", divide="ignore"):
            own = np.exp(at) if self.log else np.asarray(at, float)
            if self.mirror == "b":
                return 1.0 - own
            if self.mirror == "n_tokens_opt":
                assert self.ladder is not None
                return self.flops / np.exp(self.ladder.log_cost(np.log(own)))
        return own


def fix_quantity(fit: Fit, quantity: str, flops: float | None = None) -> FixedQuantity:
    """A quantity of a fit, made a coordinate that can be fixed.

    Args:
      quantity: a parameter of the law, or one of EXPONENTS and OF_OPTIMUM. flops: for the latter.

    Raises:
      ValueError: for a quantity that cannot be fixed, saying why.
      FitError: if the fitted surface has no optimum at `flops`.
    """
    law, runs = law_named(fit.law) if fit.law != "power_laws" else None, fit.fitted_runs
    if law is None:
        raise ValueError(f"{fit.approach} is no law with an objective: profile a surface")
    derived = (*EXPONENTS, *OF_OPTIMUM) if law.is_surface else ()
    if quantity not in (*law.names, *derived):
        raise ValueError(
            f"law {law.name} has no {quantity!r}; it has {', '.join((*law.names, *derived))}"
        )
    if (quantity in OF_OPTIMUM) != (flops is not None) or not 0 < (flops or 1.0) < np.inf:
        need = "needs flops, a positive budget" if quantity in OF_OPTIMUM else "takes no flops"
        raise ValueError(f"{quantity} {need}, not {flops}")
    constraints = _constraints(fit)
    objective, weights = objective_named(fit.settings["objective"]), fit.settings.get("weights")
    problem = problem_of(runs, law, objective, constraints, weights)
    original = estimate(problem, constraints)
    if quantity in law.names:
        return _as_coordinate(original, original, quantity, quantity)
    ladder = Ladder.from_runs(runs)
    if quantity in EXPONENTS:
        found = _through_exponent(original, runs, constraints)
        if quantity == "b" and not ladder.is_6nd:
            raise ValueError("b is 1 - a for C = 6ND only; under this convention profile a")
        return _as_coordinate(found, original, "a", quantity)
    assert flops is not None
    found = _through_optimum(original, runs, constraints, flops)
    name = "loss_opt" if quantity == "loss_opt" else "n_params_opt"
    return replace(_as_coordinate(found, original, name, quantity), flops=flops, ladder=ladder)


def _constraints(fit: Fit) -> Constraints:
    settings = fit.settings
    bounds = {name: (float(box[0]), float(box[1])) for name, box in settings["bounds"].items()}
    return Constraints(fixed=settings["fixed"], tied=settings["tied"], bounds=bounds)


def _as_coordinate(found: Estimate, original: Estimate, name: str, asked: str) -> FixedQuantity:
    """The parameter `name` of the law of `found` as the coordinate that is fixed."""
    law, problem = found.law, found.problem
    row = problem.expand[law.names.index(name)]
    if not row.any():
        raise ValueError(f"{name} is fixed in this fit: there is nothing to profile")
    index = int(np.argmax(row))
    covariance = np.linalg.pinv(problem.n_points * _information(found), hermitian=True)
    own = max(float(covariance[index, index]), 1e-300)
    low, high = problem.lower[index], problem.upper[index]
    spread = np.sqrt(own) * max(float(np.std(found.residuals)), 1e-12)
    return FixedQuantity(
        found=found,
        original=original,
        index=index,
        log=law.parameters[law.names.index(name)].is_positive,
        mirror="" if asked == name else asked,
        flops=np.nan,
        ladder=None,
        spread=float(np.clip(spread, 1e-9, (high - low) / 16.0)),
        path=np.delete(covariance[:, index], index) / own,
    )


def _information(found: Estimate) -> Array:
    """Mean of J J^T over points, [F, F]; J: slopes of the prediction in the objective's space."""
    of_points = slopes(found).T
    return of_points @ of_points.T / found.problem.n_points


def _through_optimum(
    original: Estimate, runs: Runs, constraints: Constraints, flops: float
) -> Estimate:
    ladder = Ladder.from_runs(runs)
    law = with_optimum(original.law, pieces(ladder))

    def parameters(base: Array) -> Array:
        n_params, loss = optimum(original.law, base, ladder, flops)
        columns = [base[:, :1], n_params[:, None], loss[:, None], base[:, 3:]]
        return np.concatenate([*columns, np.full((len(base), 1), flops)], axis=1)

    return _rewritten(original, runs, constraints, law, {"flops": flops}, parameters)


def _through_exponent(original: Estimate, runs: Runs, constraints: Constraints) -> Estimate:
    ladder = Ladder.from_runs(runs)
    law = with_exponent(original.law, pieces(ladder))
    ends = {"flops": float(runs.flops.min()), "flops_high": float(runs.flops.max())}

    def parameters(base: Array) -> Array:
        n_params, loss = optimum(original.law, base, ladder, ends["flops"])
        a, _ = chord_exponents(original.law, base, runs)
        columns = [base[:, :1], n_params[:, None], loss[:, None], a[:, None], base[:, 4:]]
        return np.concatenate([*columns, np.full((len(base), 2), list(ends.values()))], axis=1)

    return _rewritten(original, runs, constraints, law, ends, parameters)


def _rewritten(
    original: Estimate,
    runs: Runs,
    constraints: Constraints,
    law: Law,
    budgets: Mapping[str, float],
    parameters: Any,
) -> Estimate:
    """The fit in another law of the same surfaces; `parameters` maps rows [R, P] to rows."""
    named = [*constraints.fixed, *constraints.bounds, *constraints.tied, *constraints.tied.values()]
    lost = [name for name in named if name not in law.names]
    if lost:
        raise ValueError(
            f"{', '.join(lost)} is fixed, tied or bounded in this fit, and this profile replaces "
            "it: profile a parameter, or fit without that constraint"
        )
    both = replace(constraints, fixed={**constraints.fixed, **budgets})
    old = original.problem
    problem = set_up(
        law, runs.numeric, runs.loss_nats,
        objective=old.objective, constraints=both, weights=old.weights,
    )  # fmt: skip
    problem = replace(problem, delta=old.delta)

    def coordinates(z: Array) -> Array:
        base = original.parameters_of(z)
        theta = law.to_coordinates(parameters(base))
        if old.objective.has_scale:
            full = z @ old.expand.T + old.offset
            theta = np.concatenate([theta, full[:, -1:]], axis=1)
        found = theta[:, np.argmax(problem.expand, axis=0)]
        return found[np.all(np.isfinite(found), axis=1)]

    z = coordinates(original.z[None])
    if not len(z):
        raise FitError(f"the fitted {original.law.name} surface has no optimum at this budget")
    return replace(
        original,
        problem=problem,
        z=z[0],
        parameters=parameters(original.parameters[None])[0],
        minima=coordinates(original.minima),
        starts=coordinates(original.starts),
    )
