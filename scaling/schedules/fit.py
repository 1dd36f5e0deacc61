# SPDX-License-Identifier: Apache-2.0
"""The multi-power law fitted to loss curves; predict.py predicts new schedules from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy.typing import ArrayLike

from scaling.approaches import diagnostics
from scaling.fit import Bootstrap, Certificate, FitStatus
from scaling.intervals import Interval
from scaling.laws.law import Law
from scaling.laws.objectives import HUBER, Objective, objective_named
from scaling.laws.schedule_laws import MULTI_POWER
from scaling.schedules.multi_power_law import schedule_columns
from scaling.solve.problem import Constraints, set_up
from scaling.solve.regression import Estimate, estimate
from scaling.solve.replicates import replicate
from scaling.tables.arrays import Array
from scaling.tables.short_repr import ShortRepr
from scaling.uncertainty.bootstrap_draws import wild_draws

# Fewer runs than this per parameter, and blocks of evaluations are the clusters.
_RUNS_PER_PARAMETER = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ScheduleFit(ShortRepr):
    """The multi-power law of one model's curves.

    Fields:
      parameters, intervals: by name. replicates: [R, P] in that order, NaN where one failed.
      residual_sd: scatter of single evaluations about the law, in log loss.
      misfit_sd: of the law about a whole curve it was not fitted to, in log loss: each run is left
        out in turn and predicted from the others. NaN with one run. n_predicted: of how many runs
        the others gave a certified fit.
      lr_range: lowest and highest rate after warm-up; lr_sum: largest sum of rates, of the fit.
    """

    law: Law
    objective: Objective
    parameters: Mapping[str, float]
    intervals: Mapping[str, Interval]
    status: FitStatus
    certificate: Certificate
    findings: tuple[str, ...]
    bootstrap: Bootstrap
    replicates: Float[Array, "R P"]
    residual_sd: float
    misfit_sd: float
    n_predicted: int
    lr_range: tuple[float, float]
    lr_sum: float

    @property
    def is_certified(self) -> bool:
        return self.status is FitStatus.CONVERGED

    @property
    def draws(self) -> Float[Array, "draws P"]:
        """Parameters [1 + R, P]: the estimate first, then its replicates."""
        return np.concatenate([[list(self.parameters.values())], self.replicates])


def fit_schedules(
    run: Sequence[str] | Array,
    step: ArrayLike,
    loss_nats: ArrayLike,
    schedules: Mapping[str, Array],
    *,
    objective: str | Objective = HUBER,
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    n_bootstrap: int = 200,
    level: float = 0.95,
    seed: int = 0,
    cluster: str = "auto",
) -> ScheduleFit:
    """The multi-power law fitted to loss curves (Luo et al. 2025), with a certificate.

    Residuals along a curve are strongly correlated. The wild bootstrap keeps those of a cluster
    together: the run where there are enough runs, otherwise blocks of a run that are twice as
    long as the residuals remember (Kunsch 1989 for blocks; Webb 2023 for the weights). Noise that
    runs share (branches of one trunk) is not respected: their curves count as independent.

    Args:
      run, step, loss_nats: one row per evaluation, after the warm-up, [n].
      schedules: run -> lr [T + 1], see `multi_power_law`.
      objective, fixed, bounds: as for `surface.fit_surface`.
      n_bootstrap: replicates; 0 for none.
      cluster: "auto", "run" or "block".

    Raises:
      ValueError: for rows without a schedule, or losses that are not positive and finite.
      FitError: when evaluations are fewer than parameters + 2.
    """
    runs, steps, loss = np.asarray(run), np.asarray(step), np.asarray(loss_nats, float)
    _check(runs, steps, loss, cluster)
    kind = objective_named(objective) if isinstance(objective, str) else objective
    constraints = Constraints(fixed=fixed or {}, bounds=bounds or {})
    columns = schedule_columns(runs, steps, schedules)
    problem = set_up(MULTI_POWER, columns, loss, objective=kind, constraints=constraints)
    diagnostics.require_points(problem)
    found = estimate(problem, constraints)
    labels, method = _clusters(runs, steps, found, cluster)
    replicates = _replicates(found, labels, n_bootstrap, seed)
    n_failed = int(np.sum(~np.all(np.isfinite(replicates), axis=1)))
    misfit, n_predicted = _misfit_sd(found, runs)
    named = dict(zip(MULTI_POWER.names, replicates.T, strict=True))
    fitted = [np.asarray(schedules[name], float) for name in dict.fromkeys(runs.tolist())]
    return ScheduleFit(
        law=MULTI_POWER,
        objective=kind,
        parameters=dict(zip(MULTI_POWER.names, map(float, found.parameters), strict=True)),
        intervals={name: Interval.of(values, level) for name, values in named.items()},
        status=found.status,
        certificate=found.certificate,
        findings=(
            *diagnostics.certificate_findings(found.certificate),
            *_cluster_findings(labels, method, len(found.z)),
            *_misfit_findings(misfit, n_predicted, len(fitted)),
            *diagnostics.replicate_findings(n_failed, n_bootstrap, "no certified minimum"),
        ),
        bootstrap=Bootstrap(
            method=f"wild by {method}",
            level=level,
            n_replicates=n_bootstrap,
            n_failed=n_failed,
            seed=seed,
        ),
        replicates=replicates,
        residual_sd=float(np.sqrt(np.sum(found.residuals**2) / (len(loss) - len(found.z)))),
        misfit_sd=misfit,
        n_predicted=n_predicted,
        lr_range=_range_after_warmup(fitted),
        lr_sum=float(np.exp(np.max(columns["log_lr_sum"]))),
    )


def _range_after_warmup(schedules: Sequence[Array]) -> tuple[float, float]:
    """Lowest and highest rate from each schedule's peak on."""
    after = np.concatenate([lr[int(np.argmax(lr)) :] for lr in schedules])
    return float(after.min()), float(after.max())


def block_labels(
    run: Shaped[Array, " n"], step: Shaped[Array, " n"], residuals: Float[Array, " n"]
) -> Int[Array, " n"]:
    """Label of each evaluation's block [n]: stretches of a run twice as long as its memory.

    The memory is 1 + 2 sum of autocorrelations up to the first that is not positive (Sokal 1997),
    pooled over runs.
    """
    order = np.lexsort((step, run))
    run, values = run[order], residuals[order]
    first = np.concatenate([[0], np.flatnonzero(run[1:] != run[:-1]) + 1, [len(run)]])
    parts = [values[a:b] for a, b in pairwise(first)]
    length = int(np.ceil(2.0 * _memory(parts)))
    labels, n = np.zeros(len(run), int), 0
    for a, b in pairwise(first):
        # Whole blocks only: the remainder is spread over them.
        n_blocks = max(1, (b - a) // length)
        labels[order[a:b]] = n + np.arange(b - a) * n_blocks // (b - a)
        n += n_blocks
    return labels


def _memory(parts: Sequence[Array]) -> float:
    """Integrated autocorrelation time of series, in evaluations; at least 1."""
    variance = sum(float(np.sum(v**2)) for v in parts)
    memory = 1.0
    for lag in range(1, max(len(v) for v in parts)):
        rho = sum(float(np.sum(v[lag:] * v[:-lag])) for v in parts) / (variance + 1e-300)
        if rho <= 0:
            break
        memory += 2.0 * rho
    return memory


def _clusters(run: Array, step: Array, found: Estimate, asked: str) -> tuple[Array, " str"]:
    by_run = np.unique(run, return_inverse=True)[1].reshape(-1)
    enough = by_run.max() + 1 >= _RUNS_PER_PARAMETER * len(found.z)
    if asked == "run" or (asked == "auto" and enough):
        return by_run, "run"
    return block_labels(run, step, found.residuals), "block"


def _replicates(found: Estimate, labels: Array, n: int, seed: int) -> Array:
    """Parameters [R, P] of wild-bootstrap replicates, NaN where none is certified."""
    if n == 0:
        return np.zeros((0, len(found.parameters)))
    rng = np.random.default_rng(seed)
    drawn = wild_draws(found.residuals, labels, len(found.z), n, rng)
    y = found.problem.y - found.residuals + drawn
    solved = replicate(found, y, np.broadcast_to(found.problem.weights, y.shape), n_starts=2)
    return found.parameters_of(solved.z)


def _misfit_sd(found: Estimate, run: Array) -> tuple[float, int]:
    """Root mean square error, in log loss, of curves predicted from the others; how many were."""
    labels = np.unique(run, return_inverse=True)[1].reshape(-1)
    n_runs = int(labels.max()) + 1
    if n_runs < 2:
        return float("nan"), 0
    problem, is_out = found.problem, labels == np.arange(n_runs)[:, None]
    y = np.broadcast_to(problem.y, is_out.shape)
    solved = replicate(found, y, np.where(is_out, 0.0, problem.weights), n_starts=3)
    predicted = problem.law.predict(found.parameters_of(solved.z), problem.x)
    error = problem.y - (np.log(predicted) if problem.objective.is_log else predicted)
    scale = 1.0 if problem.objective.is_log else predicted
    squares = np.sum(np.where(is_out, (error / scale) ** 2, 0.0), axis=1) / is_out.sum(axis=1)
    squares = squares[solved.is_certified]
    return (float(np.sqrt(np.mean(squares))) if len(squares) else float("nan")), len(squares)


def _cluster_findings(labels: Array, method: str, n_free: int) -> list[str]:
    n = int(labels.max()) + 1
    sentences = []
    if method == "block":
        sentences.append(
            f"intervals of the parameters come from {n} blocks of the curves: they hold for curves "
            "of the fitted schedules."
        )
    if n < 2 * n_free:
        sentences.append(
            f"only {n} independent clusters for {n_free} parameters: intervals are likely too "
            "narrow."
        )
    return sentences


def _misfit_findings(misfit: float, n_predicted: int, n_runs: int) -> list[str]:
    if not np.isfinite(misfit):
        return [
            f"with {n_runs} curves, none can be predicted from the others: how well the law "
            "carries over to another schedule cannot be seen, and the bands of predictions leave "
            "it out. Add runs with other schedules."
        ]
    sentence = (
        f"{n_predicted} of {n_runs} curves are predicted from the others to {100 * misfit:.2g} % "
        "(root mean square); predictions carry this misfit."
    )
    lost = " Without the others no certified minimum was found." if n_predicted < n_runs else ""
    return [sentence + lost]


def _check(run: Array, step: Array, loss: Array, cluster: str) -> None:
    if cluster not in ("auto", "run", "block"):
        raise ValueError(f"unknown cluster {cluster!r}; choose auto, run or block")
    if not len(run) == len(step) == len(loss) > 0:
        raise ValueError(f"run, step and loss have {len(run)}, {len(step)} and {len(loss)} rows")
    bad = np.flatnonzero(~(np.isfinite(loss) & (loss > 0)))
    if len(bad):
        shown = "; ".join(f"{run[i]} step {step[i]}: {loss[i]:g}" for i in bad[:5])
        raise ValueError(f"{len(bad)} losses are not positive and finite: {shown}")
