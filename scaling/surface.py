# SPDX-License-Identifier: Apache-2.0
"""Approach 3: the loss surface by robust regression (Hoffmann et al. 2022, sec. 3.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from scaling import diagnostics, uncertainty
from scaling.compute import Ladder, minimise
from scaling.fit import Bootstrap, Certificate, Fit, FitStatus, Interval, Noise
from scaling.laws import Centre, Law, law_named, optimal_exponents
from scaling.runs import Runs
from scaling.solver import Problem, best_row, certify, distinct_minima, solve

Array = np.ndarray

# Hoffmann et al. 2022, sec. 3.3. Far below the usual scatter of log loss (about 0.01), it makes
# the fit nearly one of least absolute deviations: robust, at the cost of wider intervals.
HUBER_DELTA = 1e-3
REPLICATE_ITERATIONS = 400


def fit_surface(
    runs: Runs,
    *,
    form: str = "additive",
    delta: float = HUBER_DELTA,
    n_bootstrap: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    bootstrap: str = "auto",
) -> Fit:
    """Loss surface L(N, D) with intervals, and its certificate.

    Minimises the sum over runs of Huber_delta(log L - log L_hat(N, D)), Hoffmann et al. 2022,
    eq. 3, from a grid of variable-projection starts, by damped Newton steps with exact
    derivatives in float64.

    Which form: "additive" (5 parameters) is the default for forecasts. The curved form's gamma is
    not resolved from 1 by a few dozen noisy runs; its extra freedom then buys wider intervals and
    no accuracy. See `frontier.choose_forecaster`.

    Args:
      runs: rows whose status is not ok are left out and listed.
      form: name of a law in `laws.LAWS`.
      delta: half-width of the quadratic part of Huber's loss, in log loss.
      n_bootstrap: replicates; 0 for none.
      level: of all intervals, e.g. 0.95.
      seed: of the bootstrap.
      bootstrap: "auto", "pairs", "residual" or "wild", see `uncertainty`.

    Raises:
      FitError: when the runs are too few, or all on one ray.
      ValueError: for an unknown form or bootstrap, or a delta that is not positive.
    """
    law = law_named(form)
    if not delta > 0:
        raise ValueError(f"delta is {delta}, must be positive; Hoffmann et al. 2022 use 1e-3")
    fitted, left_out = diagnostics.usable(runs)
    diagnostics.require_points(fitted, law)
    diagnostics.require_identifiable(fitted)
    found = _estimate(law, fitted, delta)
    method = uncertainty.choose_method(bootstrap, fitted, len(found.theta))
    noise = uncertainty.estimate_noise(fitted, found.residuals, len(found.theta))
    drawn = n_bootstrap if uncertainty.can_resample(method, noise) else 0
    draws = _replicates(found, fitted, noise, method, drawn, np.random.default_rng(seed))
    parameters = law.to_parameters(np.concatenate([found.theta[None], draws]), found.centre)
    ladder = Ladder.from_runs(fitted)
    a, b = chord_exponents(law, parameters, ladder, fitted)
    columns = {name: parameters[:, i] for i, name in enumerate(law.parameters)} | {"a": a, "b": b}
    replicates = {name: values[1:] for name, values in columns.items()}
    n_failed = int(np.sum(~np.isfinite(a[1:])))
    findings = [
        *runs.findings,
        *diagnostics.certificate_findings(law, found.certificate),
        *diagnostics.residual_findings(fitted, found.residuals),
        *uncertainty.cluster_findings(fitted, method, len(found.theta)),
        *_convention_findings(ladder),
        *_replicate_findings(replicates, draws, law, level),
        *diagnostics.replicate_findings(n_failed, drawn, "no certified minimum or no optimum"),
    ]
    return Fit(
        approach="surface",
        law=law.name,
        parameters={name: float(columns[name][0]) for name in law.parameters},
        intervals={name: Interval.of(values, level) for name, values in replicates.items()},
        exponent_a=float(a[0]),
        exponent_b=float(b[0]),
        status=found.status,
        certificate=found.certificate,
        findings=tuple(findings),
        runs=runs,
        left_out=left_out,
        optima=(),
        noise=noise,
        bootstrap=Bootstrap(
            method=method, level=level, n_replicates=drawn, n_failed=n_failed, seed=seed
        ),
        replicates=replicates,
        settings={"delta": delta, "objective": "Huber on log loss", "form": law.formula},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Estimate:
    """The minimum for the runs as they are, and where replicates should start from."""

    problem: Problem
    centre: Centre
    theta: Array
    residuals: Array
    status: FitStatus
    certificate: Certificate
    starts: Array


def _estimate(law: Law, runs: Runs, delta: float) -> _Estimate:
    problem, centre = _problem(law, runs, delta)
    grid = law.starts(problem.log_n, problem.log_d, problem.log_l)
    solutions = solve(problem, grid)
    theta = solutions.theta[best_row(solutions)]
    status, certificate = certify(law, solutions)
    return _Estimate(
        problem=problem,
        centre=centre,
        theta=theta,
        residuals=problem.log_l - law.log_loss(np, theta, problem.log_n, problem.log_d),
        status=status,
        certificate=certificate,
        starts=np.concatenate([theta[None], distinct_minima(solutions, 3)[1:], grid[:1]]),
    )


def _problem(law: Law, runs: Runs, delta: float) -> tuple[Problem, Centre]:
    log_n, log_d, log_l = np.log(runs.n_params), np.log(runs.n_tokens), np.log(runs.loss_nats)
    centre = Centre(
        log_n_params=float(log_n.mean()),
        log_n_tokens=float(log_d.mean()),
        log_loss=float(log_l.mean()),
    )
    problem = Problem(
        law=law,
        log_n=log_n - centre.log_n_params,
        log_d=log_d - centre.log_n_tokens,
        log_l=log_l - centre.log_loss,
        weights=np.ones(len(runs)),
        delta=delta,
    )
    return problem, centre


def _replicates(
    found: _Estimate,
    runs: Runs,
    noise: Noise,
    method: str,
    n_replicates: int,
    rng: np.random.Generator,
) -> Array:
    """Coordinates [R, P] of each replicate's best minimum, NaN where none is certified.

    Some replicates have several local minima, and the one nearest to the estimate is not always
    the lowest: each is solved from every one of the starts.
    """
    best = np.full((n_replicates, len(found.theta)), np.nan)
    if n_replicates == 0:
        return best
    fitted = found.problem.log_l - found.residuals
    targets, weights = uncertainty.draw_data(
        method, runs, fitted, found.residuals, noise, len(found.theta), n_replicates, rng
    )
    resampled = replace(found.problem, log_l=targets, weights=weights)
    lowest = np.full(n_replicates, np.inf)
    for start in found.starts:
        tiled = np.broadcast_to(start, best.shape)
        solutions = solve(resampled, tiled, max_iterations=REPLICATE_ITERATIONS)
        better = solutions.is_certified & (solutions.objective < lowest)
        best[better], lowest[better] = solutions.theta[better], solutions.objective[better]
    return best


def chord_exponents(law: Law, parameters: Array, ladder: Ladder, runs: Runs) -> tuple[Array, Array]:
    """Exponents a, b [R] of N*(C), D*(C) between the lowest and the highest budget of the runs.

    The closed form where C = 6ND; otherwise slopes of the numerical optima, whose local values
    are in the `Frontier`.
    """
    if ladder.is_6nd:
        names = law.parameters
        alpha, beta = (parameters[:, names.index(n)] for n in ("alpha", "beta"))
        return optimal_exponents(alpha, beta)
    budgets = np.log([runs.flops.min(), runs.flops.max()])
    if budgets[1] - budgets[0] < np.log(1.1):
        budgets = budgets.mean() + np.log([0.95, 1.05])
    log_n = optimal_log_params(law, parameters, ladder, budgets)
    log_d = budgets - ladder.log_cost(log_n)
    width = budgets[1] - budgets[0]
    return np.diff(log_n, axis=1)[:, 0] / width, np.diff(log_d, axis=1)[:, 0] / width


def optimal_log_params(law: Law, parameters: Array, ladder: Ladder, log_flops: Array) -> Array:
    """log N* [R, P] of each parameter row [R, ...] at each budget [P]."""
    log_loss = law.log_loss_of(parameters)
    shape = (len(parameters), len(log_flops))
    return minimise(log_loss, ladder, np.broadcast_to(log_flops, shape))


def _convention_findings(ladder: Ladder) -> list[str]:
    if ladder.is_6nd:
        return []
    return [
        *ladder.findings,
        "C is not 6ND here: a and b are slopes between the lowest and the highest budget, found "
        "numerically along the size ladder; they do not add up to 1.",
    ]


def _replicate_findings(
    replicates: dict[str, Array], draws: Array, law: Law, level: float
) -> list[str]:
    """What the replicates say of the form: parameters at bounds, gamma not told from 1."""
    if not len(draws):
        return []
    sentences = []
    at_bound = np.any((draws <= law.lower) | (draws >= law.upper), axis=1)
    if at_bound.any():
        sentences.append(
            f"{int(at_bound.sum())} of {len(draws)} replicates touch a bound of the parameters "
            "and are kept."
        )
    gamma = Interval.of(replicates.get("gamma", np.zeros(0)), level)
    if gamma.lower <= 1.0 <= gamma.upper:
        sentences.append(
            f"gamma is not resolved from 1 ({gamma.lower:.2f} to {gamma.upper:.2f}): the additive "
            "form describes these runs as well."
        )
    return sentences
