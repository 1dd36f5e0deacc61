# SPDX-License-Identifier: Apache-2.0
"""Fits of simulated studies, and how often their intervals hold what they should.

A count has the key (study, estimator, method, quantity, target, what); what is a level, with the
number of intervals that hold the target, or one of "answers", "simulations".
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import chi2
from scipy.stats import t as student

from experiments.benchmarks.coverage.studies import QUANTITIES, SimulatedStudy, quantities
from scaling.approaches.approach2 import approach2
from scaling.approaches.power_laws import power_law_draws
from scaling.approaches.surface.fit import fit_surface, problem_of
from scaling.fit import FitError
from scaling.laws.objectives import HUBER
from scaling.profiles.constrained_fit import fixed_at
from scaling.profiles.fixed_quantity import fix_quantity
from scaling.solve.newton import solve
from scaling.solve.problem import NO_CONSTRAINTS, Problem
from scaling.solve.regression import Estimate
from scaling.tables.runs import Runs
from scaling.uncertainty import bootstrap_draws
from scaling.uncertainty.bootstrap_choice import passes_through_points
from scaling.uncertainty.noise import estimate_noise

Array = np.ndarray
Counts = Counter[Any]

LEVELS = (0.80, 0.90, 0.95)
_BY_CURVE = {"parabola": "approach 2", "joint": "approach 2, joint"}
# Minima to a millionth of an interval's width; the library goes on to rounding error.
_STOP = 1e-9


def count(
    study: SimulatedStudy, index: int, n: int, n_replicates: int, estimators: Sequence[str]
) -> Counts:
    """Counts of n simulations by some estimators; `index` seeds them."""
    rng = np.random.default_rng([index, *study.name.encode()])
    runs = study.runs()
    noise = study.noise_draws(runs.loss_nats, n, rng)
    counts: Counts = Counter()
    if "surface" in estimators:
        _surface(counts, study, runs, noise, n_replicates, rng)
    if "approach 2" in estimators:
        _approach2(counts, study, runs, noise, n_replicates, index, "parabola", study.methods)
    if "approach 2, joint" in estimators:
        # Other bootstraps than the default take as long, and are for comparison.
        joint = (noise, n_replicates, index, "joint", study.methods[:1])
        _approach2(counts, study, runs, *joint)
    if "profile" not in estimators:
        return counts
    if study.trunk is not None:
        _calibrated_profiles(counts, study, runs, noise, n_replicates, rng)
    elif study.n_seeds == 1:
        for objective in ("least_squares", "student_t:4"):
            _profiles(counts, study, runs, noise, objective)
    return counts


def tally(
    counts: Counts, key: tuple[str, ...], targets: Mapping[str, Mapping[str, float]], draws: Array
) -> None:
    """Adds the percentile intervals of draws [S, R, quantities], NaN where a replicate failed.

    Quantiles stand at k/(R + 1), so that few replicates do not make the intervals narrower.
    """
    for q, quantity in enumerate(QUANTITIES):
        values = draws[:, :, q]
        answered = np.mean(np.isfinite(values), axis=1) > 0.5
        for level in LEVELS:
            tails = [(1 - level) / 2, (1 + level) / 2]
            ends = np.full((2, len(values)), np.nan)
            if answered.any():
                ends[:, answered] = np.nanquantile(
                    values[answered], tails, axis=1, method="weibull"
                )
            for name, target in targets.items():
                hits = (ends[0] <= target[quantity]) & (target[quantity] <= ends[1])
                counts[(*key, quantity, name, level)] += int(hits.sum())
        for name in targets:
            counts[(*key, quantity, name, "answers")] += int(answered.sum())
            counts[(*key, quantity, name, "simulations")] += len(values)


def _surface(
    counts: Counts, study: SimulatedStudy, runs: Runs, noise: Array, n: int,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Huber's fit of the study's own law, every simulation and replicate in one batch each."""
    law = study.surface
    problem = problem_of(runs, law, HUBER, NO_CONSTRAINTS)
    clean = problem.y
    z = law.to_coordinates(study.parameters)
    fits = _solved(problem, clean + noise, np.ones_like(noise), np.tile(z, (len(noise), 1)))
    fitted = np.log(law.predict(law.to_parameters(fits), problem.x))
    residuals = clean + noise - fitted
    of_points = _slopes(problem, fits)
    for method in study.methods:
        drawn = [
            _draws(method, runs, f, r, s, n, rng)
            for f, r, s in zip(fitted, residuals, of_points, strict=True)
        ]
        y, weights = (np.concatenate(columns) for columns in zip(*drawn, strict=True))
        found = _solved(problem, y, weights, np.repeat(fits, n, axis=0))
        values = quantities(law, law.to_parameters(found), study.flops)
        draws = np.stack([values[name] for name in QUANTITIES], axis=-1)
        key = (study.name, "surface", method)
        tally(counts, key, {"truth": study.truth()}, draws.reshape(len(noise), n, -1))


def _draws(
    method: str, runs: Runs, fitted: Array, residuals: Array, slopes: Array, n: int,
    rng: np.random.Generator,
) -> tuple[Array, Array]:  # fmt: skip
    """Replicates of one simulation, as `fit_surface` draws them; NaN where it has no fit."""
    n_parameters = slopes.shape[1]
    if not np.all(np.isfinite(fitted)):
        return np.full((n, len(fitted)), np.nan), np.ones((n, len(fitted)))
    noise = estimate_noise(runs, residuals, n_parameters)
    return bootstrap_draws.draw_data(
        method, runs, fitted, residuals, n_parameters, n, rng,
        absorbs=passes_through_points(HUBER, noise), slopes=slopes,
    )  # fmt: skip


def _slopes(problem: Problem, z: Array) -> Array:
    """Central differences of log predictions by the coordinates of each fit [S, F]: [S, n, F]."""
    step = 1e-6 * np.eye(z.shape[1])
    law = problem.law
    ends = [
        np.log(law.predict(law.to_parameters(z + shift), problem.x))
        for row in step
        for shift in (row, -row)
    ]
    pairs = np.stack(ends).reshape(z.shape[1], 2, len(z), -1)
    return np.moveaxis(pairs[:, 0] - pairs[:, 1], 0, -1) / 2e-6


def _solved(problem: Problem, y: Array, weights: Array, start: Array) -> Array:
    """Minimising coordinates [S, F], NaN where the solver has not converged."""
    found = solve(replace(problem, y=y, weights=weights), start, max_iterations=400, stop=_STOP)
    good = np.isfinite(found.decrement) & (found.decrement <= 1e-6 * found.objective)
    return np.where(good[:, None], found.theta, np.nan)


def _approach2(
    counts: Counts, study: SimulatedStudy, runs: Runs, noise: Array, n: int, seed: int,
    curve: str, methods: Sequence[str],
) -> None:  # fmt: skip
    """The library's own fit, one simulation after another."""
    pseudo = {q: v[0] for q, v in _power_laws(study, runs, curve, "auto", 0, 0).items()}
    targets = {"truth": study.truth(), "pseudo-truth": pseudo}
    for method in methods:
        draws = np.full((len(noise), n, len(QUANTITIES)), np.nan)
        for s, row in enumerate(noise):
            noisy = replace(runs, loss_nats=runs.loss_nats * np.exp(row))
            try:
                values = _power_laws(study, noisy, curve, method, n, seed * len(noise) + s)
            except FitError:
                continue
            draws[s] = np.stack([values[q][1:] for q in QUANTITIES], axis=1)
        tally(counts, (study.name, _BY_CURVE[curve], method), targets, draws)


def _power_laws(
    study: SimulatedStudy, runs: Runs, curve: str, method: str, n: int, seed: int
) -> dict[str, Array]:
    """QUANTITIES of Approach 2, the estimate first."""
    fit = approach2(runs, curve=curve, n_bootstrap=n, bootstrap=method, seed=seed)
    draws = power_law_draws(fit)
    log_ratio = np.log(study.flops / fit.parameters["flops_ref"])
    return {
        "a": draws["exponent_a"],
        "E": draws["E"],
        "n_params_opt": draws["n_params_ref"] * np.exp(draws["exponent_a"] * log_ratio),
        "loss_opt": draws["E"] + draws["K"] * np.exp(-draws["c"] * log_ratio),
    }


def _profiles(
    counts: Counts, study: SimulatedStudy, runs: Runs, noise: Array, objective: str
) -> None:
    """Likelihood profiles: the interval holds the truth where the excess there is small.

    With so few points `profile` takes chi-square for no interval of Student's t, and for this
    reason: the rows show what it would do.
    """
    first = replace(runs, loss_nats=runs.loss_nats * np.exp(noise[0]))
    fit = fit_surface(first, study.law, objective=objective, n_bootstrap=0)
    clean, truth = np.log(runs.loss_nats), study.truth()
    for quantity in QUANTITIES:
        at_budget = quantity in ("n_params_opt", "loss_opt")
        held = fix_quantity(fit, quantity, study.flops if at_budget else None)
        at = np.log(truth[quantity]) if held.log else truth[quantity]
        bound = fixed_at(held, np.array([at]))
        free = _lowest(held.original, held.original.problem, held.original.z, clean + noise)
        rest = _lowest(held.original, replace(bound, offset=bound.offset[0]),
                       np.delete(held.found.z, held.index), clean + noise)  # fmt: skip
        dof = len(clean) - len(held.original.z)
        how = "least squares, F" if objective == "least_squares" else "Student t, chi-square"
        key = (study.name, "profile", how, quantity, "truth")
        for level in LEVELS:
            threshold = 0.5 * chi2.ppf(level, 1)
            if objective == "least_squares":
                threshold = free * student.ppf((1 + level) / 2, dof) ** 2 / dof
            counts[(*key, level)] += int(np.sum(rest - free <= threshold))
        counts[(*key, "answers")] += int(np.sum(np.isfinite(rest - free)))
        counts[(*key, "simulations")] += len(noise)


def _calibrated_profiles(
    counts: Counts, study: SimulatedStudy, runs: Runs, noise: Array, n: int,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Profiles of least squares whose threshold is the quantile of what replicates pay.

    As `profile` does where runs share noise, from one start per replicate.
    """
    law, truth, clean = study.surface, study.truth(), np.log(runs.loss_nats)
    first = replace(runs, loss_nats=runs.loss_nats * np.exp(noise[0]))
    fit = fit_surface(first, law, objective="least_squares", n_bootstrap=0)
    original = fix_quantity(fit, "E").original
    start = np.tile(law.to_coordinates(study.parameters), (len(noise), 1))
    fits = _solved(original.problem, clean + noise, np.ones_like(noise), start)
    fitted = np.log(law.predict(law.to_parameters(fits), original.problem.x))
    residuals = clean + noise - fitted
    rows = zip(fitted, residuals, _slopes(original.problem, fits), strict=True)
    y = np.concatenate([_draws("components", runs, *row, n, rng)[0] for row in rows])
    estimates = quantities(law, law.to_parameters(fits), study.flops)
    free, free_of_draws = (
        _lowest(original, original.problem, original.z, values) for values in (clean + noise, y)
    )
    for quantity in QUANTITIES:
        at_budget = quantity in ("n_params_opt", "loss_opt")
        held = fix_quantity(fit, quantity, study.flops if at_budget else None)
        excess = []
        for values, lowest, where in (
            (clean + noise, free, np.full(len(noise), truth[quantity])),
            (y, free_of_draws, np.repeat(estimates[quantity], n)),
        ):
            bound = fixed_at(held, np.log(where) if held.log else where)
            begin = np.delete(held.found.z, held.index)
            excess.append(_lowest(held.original, bound, begin, values) - lowest)
        paid, of_draws = excess[0], excess[1].reshape(len(noise), n)
        answered = np.isfinite(paid) & (np.mean(np.isfinite(of_draws), axis=1) > 0.5)
        key = (study.name, "profile", "least squares, components", quantity, "truth")
        for level in LEVELS:
            threshold = np.nanquantile(of_draws[answered], level, axis=1, method="weibull")
            counts[(*key, level)] += int(np.sum(paid[answered] <= threshold))
        counts[(*key, "answers")] += int(np.sum(answered))
        counts[(*key, "simulations")] += len(noise)


def _lowest(found: Estimate, problem: Problem, z: Array, y: Array) -> Array:
    """Lowest objective of each row of data from one start, NaN where there is none."""
    solved = solve(replace(problem, y=y, weights=np.ones_like(y)), np.tile(z, (len(y), 1)))
    return np.where(solved.is_certified, solved.objective, np.nan)
