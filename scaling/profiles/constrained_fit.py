# SPDX-License-Identifier: Apache-2.0
"""One quantity of a fitted law held at given values: the minima over everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scaling.approaches.surface import chord_exponents, problem_of
from scaling.fit import Fit, FitError
from scaling.laws.law import Law
from scaling.laws.loss_laws import law_named
from scaling.laws.objectives import objective_named
from scaling.laws.size_ladder import Ladder
from scaling.profiles.optimum_form import optimum, pieces, with_exponent, with_optimum
from scaling.solve.newton import Problem
from scaling.solve.regression import Constraints, Estimate, descend, estimate, set_up, slopes
from scaling.solve.replicates import replicate
from scaling.tables.runs import Runs

Array = np.ndarray

OF_OPTIMUM = ("n_params_opt", "n_tokens_opt", "loss_opt")
EXPONENTS = ("a", "b")
# Rounds in which every held value also starts from its neighbours' minima.
_SWEEPS = 3
# Largest share of L* that a start gives to E.
_LARGEST_E = 0.95


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """A quantity that is one free coordinate of a law.

    Fields:
      found: the fit, written in the law that has the quantity as a parameter. original: the fit
        as it was asked for; the same for a parameter.
      index: of the coordinate among the free ones.
      log: whether the coordinate is the quantity's logarithm.
      mirror: what is asked for where that is a map of what is held: "b" = 1 - a, or
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
    path: Array

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
            held = np.exp(at) if self.log else np.asarray(at, float)
            if self.mirror == "b":
                return 1.0 - held
            if self.mirror == "n_tokens_opt":
                assert self.ladder is not None
                return self.flops / np.exp(self.ladder.log_cost(np.log(held)))
        return held


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldMinima:
    """Lowest minimum at each held value, [S]; z: the coordinates left free, [S, F - 1]."""

    objective: Array
    is_certified: Array
    z: Array


def hold(fit: Fit, quantity: str, flops: float | None = None) -> Held:
    """A quantity of a fit, made a coordinate that can be held.

    Args:
      quantity: a parameter of the law, or one of EXPONENTS and OF_OPTIMUM. flops: for the latter.

    Raises:
      ValueError: for a quantity that cannot be held, saying why.
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
    problem = problem_of(runs, law, objective_named(fit.settings["objective"]), constraints)
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


def held_minima(held: Held, at: Array, starts: Sequence[Array] = ()) -> HeldMinima:
    """The lowest objective met with the coordinate held at each value.

    Every value starts on the linear path through the estimate, at the estimate's and its other
    minima's coordinates, and at `starts` [S, F - 1]; then where its neighbours ended.
    """
    problem = held_at(held, at)
    rest = np.delete(held.found.minima, held.index, axis=1)
    here = np.delete(held.found.z, held.index)
    begin = [here + (at - held.at)[:, None] * held.path, *starts]
    begin += [np.broadcast_to(z, (len(at), len(here))) for z in (here, *rest[:2])]
    best = None
    for z in begin:
        best = _lower(best, _solved(held, problem, z))
    assert best is not None
    for _ in range(_SWEEPS if len(at) > 2 else 0):
        before = best.objective.copy()
        for shift in (1, -1):
            best = _lower(best, _solved(held, problem, np.roll(best.z, shift, axis=0)))
        if np.allclose(before, best.objective, rtol=1e-10, atol=0.0):
            break
    return best


def excess_of_replicates(held: Held, y: Array, weights: Array) -> Array:
    """What holding the quantity at its estimate costs each replicate, [R]; NaN where uncertified.

    Under a bootstrap the estimate is the truth of its replicates, so that the quantiles of this
    excess are those of the profile at the truth.
    """
    fixed = held_at(held, np.array([held.at]))
    rest = replace(
        held.found,
        problem=replace(fixed, offset=fixed.offset[0]),
        z=np.delete(held.found.z, held.index),
        minima=np.delete(held.found.minima, held.index, axis=1),
        starts=np.delete(held.found.starts, held.index, axis=1),
    )
    bound, free = replicate(rest, y, weights, n_starts=3), replicate(held.original, y, weights)
    # A constrained minimum below the free one is itself a free point: the excess is then zero.
    excess = np.maximum(bound.objective - free.objective, 0.0) / _unit(held)
    return np.where(bound.is_certified & free.is_certified, excess, np.nan)


def held_at(held: Held, at: Array) -> Problem:
    """The problem with the coordinate held, row s at at[s]."""
    problem, k = held.found.problem, held.index
    return replace(
        problem,
        offset=problem.offset + at[:, None] * problem.expand[:, k],
        expand=np.delete(problem.expand, k, axis=1),
        lower=np.delete(problem.lower, k),
        upper=np.delete(problem.upper, k),
    )


def _solved(held: Held, problem: Problem, begin: Array) -> HeldMinima:
    begin = _feasible(held, problem, np.clip(begin, problem.lower, problem.upper))
    solutions = descend(problem, begin, _spread_of_residuals(held.original))
    finite = np.isfinite(solutions.objective)
    return HeldMinima(
        objective=np.where(finite, solutions.objective, np.inf) / _unit(held),
        is_certified=solutions.is_certified,
        z=solutions.theta,
    )


def _lower(one: HeldMinima | None, other: HeldMinima) -> HeldMinima:
    if one is None:
        return other
    better = other.objective < one.objective
    return HeldMinima(
        objective=np.where(better, other.objective, one.objective),
        is_certified=np.where(better, other.is_certified, one.is_certified),
        z=np.where(better[:, None], other.z, one.z),
    )


def _feasible(held: Held, problem: Problem, z: Array) -> Array:
    """Starts whose E lies below the L* that they hold."""
    names = held.found.law.names
    if "loss_opt" not in names:
        return z
    e, opt = names.index("E"), names.index("loss_opt")
    if not problem.expand[e].any():
        return z
    full = z @ problem.expand.T + problem.offset
    column = int(np.argmax(problem.expand[e]))
    limit = full[:, opt] + np.log(_LARGEST_E)
    moved = z.copy()
    moved[:, column] = np.minimum(full[:, e], limit)
    return np.clip(moved, problem.lower, problem.upper)


def _spread_of_residuals(found: Estimate) -> float:
    return 1.4826 * float(np.median(np.abs(found.residuals))) + 1e-12


def _unit(held: Held) -> float:
    """Kinked objectives are solved times their half-width."""
    objective = held.original.problem.objective
    return objective.delta(_spread_of_residuals(held.original)) if objective.is_kinked else 1.0


def _constraints(fit: Fit) -> Constraints:
    settings = fit.settings
    bounds = {name: (float(box[0]), float(box[1])) for name, box in settings["bounds"].items()}
    return Constraints(fixed=settings["fixed"], tied=settings["tied"], bounds=bounds)


def _as_coordinate(found: Estimate, original: Estimate, name: str, asked: str) -> Held:
    """The parameter `name` of the law of `found` as the coordinate that is held."""
    law, problem = found.law, found.problem
    row = problem.expand[law.names.index(name)]
    if not row.any():
        raise ValueError(f"{name} is fixed in this fit: there is nothing to profile")
    index = int(np.argmax(row))
    covariance = np.linalg.pinv(problem.n_points * _information(found), hermitian=True)
    own = max(float(covariance[index, index]), 1e-300)
    low, high = problem.lower[index], problem.upper[index]
    spread = np.sqrt(own) * max(float(np.std(found.residuals)), 1e-12)
    return Held(
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
    problem = set_up(law, runs.numeric, runs.loss_nats, objective=old.objective, constraints=both)
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
