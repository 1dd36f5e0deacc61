# SPDX-License-Identifier: Apache-2.0
"""A loss law and its scatter given some finished runs, as draws of both.

Draws are randomised maximum likelihood: each minimises the misfit to perturbed losses plus the
distance to a perturbed prior (Oliver et al. 1996; exact for a linear law). With many runs they
are a parametric bootstrap, with none they are the prior, and in between nothing is ill-posed.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.design.prior import N_ADDITIVE, NAMES, PUBLISHED, WIDER, Prior
from scaling.design.scatter import Scatter, covariance, fit_scatter
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs

# Runs r standard deviations from the law weigh min(5/(4 + r^2), 1), as under Student's t with 4
# degrees of freedom, and of normal noise this much of the variance is left.
_TAILS, _LEFT = 4.0, 0.7666
# Passes of weights and scatter; steps of one descent; the step, in prior sds, at which it ends.
_PASSES, _STEPS, _STILL = 5, 60, 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class LawPosterior:
    """Draws of the law given some runs.

    Fields:
      phi: draws of NAMES, [R, 6]. best: the most likely one. weights: of the runs, [n]; those far
        from the law weigh less. known: how many parameters the runs rather than the prior tell.
    """

    prior: Prior
    runs: Runs
    phi: Float[Array, "R 6"]
    best: Float[Array, " 6"]
    weights: Float[Array, " n"]
    scatter: Scatter
    known: float
    findings: tuple[str, ...]


def fit_posterior(runs: Runs, prior: Prior, *, n_draws: int = 32, seed: int = 0) -> LawPosterior:
    """What the runs and the prior say of the law.

    Args:
      runs: finished ones; those that are not ok are left out. There may be none.
      n_draws, seed: of the draws.
    """
    runs = runs.select(runs.is_ok)
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n_draws, len(NAMES)))
    y = np.log(runs.loss_nats)
    scatter = fit_scatter(prior, runs, y, np.zeros(len(runs)), dof=0)
    weights = np.ones(len(runs))
    begin, best = z, prior.mean
    for _ in range(_PASSES if len(runs) else 0):
        root = np.linalg.cholesky(covariance(runs, scatter, y, weights))
        best = _nearest(prior, runs, y, begin, np.zeros_like(begin), root)
        begin = (best - prior.mean)[None] / np.where(prior.sd > 0, prior.sd, 1.0)
        fitted = prior.log_loss(best, runs)
        residuals = y - fitted
        scatter = fit_scatter(prior, runs, fitted, residuals * np.sqrt(weights / _LEFT))
        spread = scatter.one_run_sd * scatter.scale(fitted)
        weights = np.minimum((_TAILS + 1) / (_TAILS + (residuals / spread) ** 2), 1.0)
    root = np.linalg.cholesky(covariance(runs, scatter, y, weights))
    noisy = y + rng.standard_normal((n_draws, len(runs))) @ root.T
    begin = np.broadcast_to(begin[:1], z.shape)
    known = _known(prior, runs, best, root)
    return LawPosterior(
        prior=prior,
        runs=runs,
        phi=_descended(prior, runs, noisy, begin, z, root)[0],
        best=best,
        weights=weights,
        scatter=scatter,
        known=known,
        findings=tuple(_findings(prior, runs, scatter, known)),
    )


def _nearest(prior: Prior, runs: Runs, y: Array, begin: Array, centre: Array, root: Array) -> Array:
    """The best of the minima that the starts reach, [6]."""
    phi, value = _descended(prior, runs, y, begin, centre, root)
    return phi[int(np.argmin(value))]


def _descended(
    prior: Prior, runs: Runs, y: Array, begin: Array, centre: Array, root: Array
) -> tuple[Array, Array]:
    """NAMES [R, 6] that minimise misfit to y [R, n] plus distance to prior draws; the minima [R].

    Levenberg-Marquardt in units of the prior, all rows at once. begin, centre: standard scores;
    root: Cholesky factor of the runs' covariance.
    """
    sd, eye = prior.sd, np.eye(len(NAMES))
    white = np.linalg.inv(root)
    z, damping = np.array(begin, float), np.full(len(begin), 1e-2)

    def misfit(z: Array) -> Array:
        return (y - prior.log_loss(prior.mean + sd * z, runs)) @ white.T

    def objective(z: Array) -> Array:
        found = np.sum(misfit(z) ** 2, axis=1) + np.sum((z - centre) ** 2, axis=1)
        return np.where(np.isfinite(found), found, np.inf)

    value = objective(z)
    for _ in range(_STEPS):
        slopes = white @ (prior.slopes(prior.mean + sd * z, runs) * sd)
        hessian = np.swapaxes(slopes, 1, 2) @ slopes + eye
        downhill = np.einsum("rnp,rn->rp", slopes, misfit(z)) - (z - centre)
        damped = hessian * (1.0 + damping[:, None, None] * eye)
        step = np.linalg.solve(damped, downhill[..., None])[..., 0]
        trial = z + np.clip(step, -2.0, 2.0)
        there = objective(trial)
        is_better = there < value
        z = np.where(is_better[:, None], trial, z)
        value = np.where(is_better, there, value)
        damping = np.where(is_better, 0.2 * damping, 5.0 * damping)
        if np.max(np.abs(step)) < _STILL:
            break
    return prior.mean + sd * z, value


def _known(prior: Prior, runs: Runs, best: Array, root: Array) -> float:
    """Trace of the share of the information that comes from the runs: 0 to 6."""
    slopes = np.linalg.solve(root, prior.slopes(best, runs) * prior.sd)
    information = slopes.T @ slopes
    return float(np.trace(np.linalg.solve(information + np.eye(len(NAMES)), information)))


def _findings(prior: Prior, runs: Runs, scatter: Scatter, known: float) -> list[str]:
    if not len(runs):
        return [
            f"no run is finished: the proposal rests on {len(PUBLISHED)} published fits, made "
            f"{WIDER:g} times wider, and on a scatter of {prior.noise_sd:g} in log loss."
        ]
    found = []
    n_free = int(np.sum(prior.sd > 0))
    if known < N_ADDITIVE - 0.5:
        found.append(
            f"the {len(runs)} finished runs tell {known:.1f} of the law's {n_free} parameters; "
            "for the rest the proposal rests on the prior of published fits."
        )
    if scatter.dof < prior.noise_dof:
        found.append(
            f"the scatter of {scatter.one_run_sd:.4f} in log loss is mostly the prior's: the runs "
            f"leave {scatter.dof:g} degrees of freedom for it."
        )
    return found
