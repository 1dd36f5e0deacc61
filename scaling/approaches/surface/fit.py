# SPDX-License-Identifier: Apache-2.0
"""Approach 3: a law by robust regression over all runs (Hoffmann et al. 2022, sec. 3.3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling.approaches import diagnostics
from scaling.approaches.surface.findings import convention_findings, form_findings
from scaling.approaches.surface.optimum import chord_exponents
from scaling.approaches.surface.stated import settings_of, stated_surface
from scaling.approaches.surface.weights import weights_of
from scaling.fit import EXPONENTS, Bootstrap, Fit, Noise
from scaling.intervals import Interval
from scaling.laws.fewest import SPARE_CONFIGURATIONS
from scaling.laws.law import Law
from scaling.laws.objectives import HUBER, Objective, objective_named
from scaling.laws.registry import law_named, register
from scaling.laws.size_ladder import Ladder
from scaling.solve.problem import Constraints, Problem, set_up
from scaling.solve.regression import Estimate, estimate, slopes
from scaling.solve.replicates import Replicates, drawn_about, replicate
from scaling.tables.arrays import Array
from scaling.tables.read_tables import as_runs
from scaling.tables.runs import Runs
from scaling.uncertainty import bootstrap_draws
from scaling.uncertainty.bootstrap_choice import (
    can_resample,
    choose_method,
    cluster_findings,
    passes_through_points,
)
from scaling.uncertainty.groups import clusters
from scaling.uncertainty.noise import estimate_noise, shared_variances
from scaling.uncertainty.sandwich import SANDWICH, are_very_many, normal_draws, sandwich_covariance
from scaling.uncertainty.variance_components import VariancePosterior


def fit_surface(
    runs: Runs | Any,
    law: str | Law = "additive",
    *,
    objective: str | Objective = HUBER,
    fixed: Mapping[str, float] | None = None,
    tied: Mapping[str, str] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    n_bootstrap: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    bootstrap: str = "auto",
    replicate_starts: int = 4,
    n_spare: int = SPARE_CONFIGURATIONS,
    weights: str | None = None,
) -> Fit:
    """A law fitted to runs, with intervals and a certificate.

    Minimises the sum over runs of rho(observed - predicted), by default Huber's loss of log loss
    at delta = 1e-3 (Hoffmann et al. 2022, eq. 3), from variable-projection starts, by damped
    Newton steps with exact derivatives in float64.

    Additive is the default: a few dozen noisy runs do not tell the curved form's gamma from 1.

    Args:
      runs: or a table that `read_runs` reads. Those that are not ok are listed, not fitted. Columns
        other than parameters, tokens and FLOPs, and another target, come from `runs.extra`.
      law: a name in `registry.LAWS`, or a `Law` of your own.
      objective: a name as in `objectives.objective_named`, or an `Objective`.
      fixed, tied, bounds: constraints on parameters by name, in the paper's units. With all of
        them fixed or tied nothing is fitted, and there are no intervals.
      n_bootstrap: replicates; 0 for none. seed: of them.
      level: of all intervals, e.g. 0.95.
      bootstrap: a method of `bootstrap_choice`, or "sandwich": draws for very many runs.
      replicate_starts: starts per replicate; 1 is faster and misses the global minimum of some.
      n_spare: different runs beyond the free parameters without which there is no fit; 0 for the
        parameters of a published fit to few, which no run contradicts.
      weights: a column of the runs: how much each counts in the sum, see `weights_of`; all alike
        when not given. Replicates then keep each run's residual: pairs, wild, or the sandwich.

    Raises:
      FitError: when the runs are too few, or all on one ray.
      ValueError: for unknown names, constraints that cannot be, or columns that are missing.
    """
    runs, law = as_runs(runs), law_named(law) if isinstance(law, str) else register(law)
    objective = objective_named(objective) if isinstance(objective, str) else objective
    constraints = Constraints(fixed=fixed or {}, tied=tied or {}, bounds=bounds or {})
    if constraints.leaves_nothing(law):
        return stated_surface(runs, law, objective, constraints, level, weights)
    fitted, left_out = diagnostics.usable(runs)
    problem, few = _checked_problem(fitted, law, objective, constraints, n_spare, weights)
    found = estimate(problem, constraints)
    scatter = _scatter(found, fitted, bootstrap)
    draws = _replicates(found, fitted, scatter, n_bootstrap, seed, replicate_starts)
    values = _values(found, draws, fitted)
    replicates = {name: column[1:] for name, column in values.items()}
    slope = replicates["exponent_a"] if law.is_surface else 0.0
    n_failed = int(np.sum(~draws.is_certified | ~np.isfinite(slope)))
    return Fit(
        approach="surface",
        law=law.name,
        parameters={name: float(values[name][0]) for name in law.names},
        intervals={name: Interval.of(column, level) for name, column in replicates.items()},
        **{name: float(values[name][0]) if law.is_surface else np.nan for name in EXPONENTS},
        status=found.status,
        certificate=found.certificate,
        findings=(
            *runs.findings,
            *few,
            *_findings(found, fitted, scatter),
            *_of_replicates(found, draws, replicates, level, n_failed),
        ),
        runs=runs,
        left_out=left_out,
        optima=(),
        noise=scatter.noise,
        bootstrap=_bootstrap(draws, scatter.method, level=level, n_failed=n_failed, seed=seed),
        replicates=replicates,
        settings=settings_of(law, objective, constraints, weights),
    )


def _bootstrap(
    draws: Replicates, method: str, *, level: float, n_failed: int, seed: int
) -> Bootstrap:
    return Bootstrap(
        method=method,
        level=level,
        n_replicates=len(draws.z),
        n_failed=n_failed,
        seed=seed,
        n_starts=int(np.max(draws.n_starts, initial=0)),
        n_single=draws.n_single,
    )


def problem_of(
    runs: Runs, law: Law, objective: Objective, constraints: Constraints, weights: str | None = None
) -> Problem:
    """The regression problem of a law and the runs to be fitted.

    Args:
      weights: a column of the runs, as `fit_surface` takes it.

    Raises:
      ValueError: for columns that the runs do not have, or a target that is not a number.
    """
    table = runs.numeric
    if law.target not in table:
        raise ValueError(f"law {law.name} predicts {law.target}, and the runs have no such column")
    diagnostics.require_numbers(runs, law)
    return set_up(
        law, table, table[law.target],
        objective=objective, constraints=constraints, weights=weights_of(runs, weights),
    )  # fmt: skip


def _checked_problem(
    runs: Runs,
    law: Law,
    objective: Objective,
    constraints: Constraints,
    n_spare: int,
    weights: str | None,
) -> tuple[Problem, list[str]]:
    """The problem of runs that suffice for the law, and what to know where they barely do."""
    problem = problem_of(runs, law, objective, constraints, weights)
    few = diagnostics.require_points(problem, n_spare)
    if law.is_surface:
        diagnostics.require_identifiable(runs)
    return problem, few


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scatter:
    """How runs scatter about the fitted law, and the bootstrap that suits them.

    slopes: of the predictions by the free coordinates, [n, F]. shared: what noise runs share.
    """

    method: str
    noise: Noise
    shared: VariancePosterior | None
    slopes: Array


def _scatter(found: Estimate, runs: Runs, bootstrap: str) -> _Scatter:
    n_free, of_points = len(found.z), slopes(found)
    shared = shared_variances(runs, found.residuals, of_points)
    return _Scatter(
        method=_method(found, runs, bootstrap),
        noise=estimate_noise(runs, found.residuals, n_free, shared),
        shared=shared,
        slopes=of_points,
    )


def _method(found: Estimate, runs: Runs, asked: str) -> str:
    """The bootstrap that suits, or normal draws for very many runs."""
    problem, n_free = found.problem, len(found.z)
    is_smooth = not (problem.objective.is_kinked or problem.objective.has_scale)
    is_inside = not np.any(problem.at_bounds(found.z))
    if asked == SANDWICH and not (is_smooth and is_inside):
        raise ValueError(
            f"{SANDWICH}: for huber and least_squares, where no parameter is at a bound; take pairs"
        )
    if asked == SANDWICH or (
        asked == "auto" and is_smooth and is_inside and are_very_many(runs, n_free)
    ):
        return SANDWICH
    return choose_method(asked, runs, n_free, is_weighted=problem.is_weighted)


def _replicates(
    found: Estimate, runs: Runs, scatter: _Scatter, n_replicates: int, seed: int, n_starts: int
) -> Replicates:
    """Minima of the replicates; none when none are asked for, or none would tell anything."""
    n_replicates *= can_resample(scatter.method, scatter.noise)
    rng = np.random.default_rng(seed)
    if scatter.method == SANDWICH:
        delta = float(found.problem.delta)
        covariance = sandwich_covariance(
            found.residuals, scatter.slopes, clusters(runs), delta, found.problem.weights
        )
        return drawn_about(found, normal_draws(found.z, covariance, n_replicates, rng))
    y, weights = bootstrap_draws.draw_data(
        scatter.method,
        runs,
        found.problem.y - found.residuals,
        found.residuals,
        len(found.z),
        n_replicates,
        rng,
        absorbs=passes_through_points(found.problem.objective, scatter.noise),
        slopes=scatter.slopes,
        weights=found.problem.weights if found.problem.is_weighted else None,
    )
    return replicate(found, y, weights * found.problem.weights, n_starts=n_starts)


def _values(found: Estimate, draws: Replicates, runs: Runs) -> dict[str, Array]:
    """Parameters, and a and b of a surface: the estimate, then replicates [1 + R]."""
    rows = np.concatenate([found.parameters[None], found.parameters_of(draws.z)])
    values = {name: rows[:, i] for i, name in enumerate(found.law.names)}
    if found.law.is_surface:
        values["exponent_a"], values["exponent_b"] = chord_exponents(found.law, rows, runs)
    return values


def _findings(found: Estimate, runs: Runs, scatter: _Scatter) -> list[str]:
    """What to know of the estimate, before its replicates."""
    is_surface, n_free = found.law.is_surface, len(found.z)
    return [
        *diagnostics.certificate_findings(found.certificate),
        *diagnostics.residual_findings(runs, found.residuals),
        *cluster_findings(runs, scatter.method, n_free, scatter.shared),
        *(convention_findings(Ladder.from_runs(runs)) if is_surface else ()),
    ]


def _of_replicates(
    found: Estimate, draws: Replicates, replicates: Mapping[str, Array], level: float, n_failed: int
) -> list[str]:
    """What to know of the replicates, and what they say of the form."""
    return [
        *form_findings(found, replicates, draws, level),
        *diagnostics.sloppy_findings(found.law, replicates, level),
        *diagnostics.replicate_findings(
            n_failed, len(draws.z), "no certified minimum or no optimum"
        ),
    ]
