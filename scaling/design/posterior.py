# SPDX-License-Identifier: Apache-2.0
"""What is believed of a law and of its scatter, before and after some runs, as draws.

L = E + (tN + tD)^gamma with tN^gamma = T_N (N/N_0)^-alpha and tD^gamma = T_D (D/D_0)^-beta: the
curved form of `laws.CURVED`, written so that T_N and T_D are the two reducible losses at the middle
(N_0, D_0) of the runs and gamma = 1 is the additive form with the same exponents. A design that
trusts the additive form alone learns nothing of its failure; gamma with a narrow prior makes it
pay for points that would show it.

Draws are randomised maximum likelihood: each minimises the misfit to perturbed losses plus the
distance to a perturbed prior (Oliver et al. 1996; exact for a linear law). With many runs they
are a parametric bootstrap, with none they are the prior, and in between nothing is ill-posed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.laws.loss_laws import CURVED
from scaling.tables.runs import Runs
from scaling.uncertainty.resampling import configurations, estimate_noise, local_scale

Array = np.ndarray

NAMES = ("log E", "log T_N", "log T_D", "alpha", "beta", "log gamma")
# Parameters of the additive form: what is reported, and what a fit takes degrees of freedom for.
N_ADDITIVE = 5
# E, alpha, beta of surfaces fitted to public tables: Hoffmann et al. 2022, table A.3 (as stated in
# eq. 10); Besiroglu et al. 2024, table 1; and the four tables of arXiv:2603.22339 without the
# points that its authors flag (`published.isoflop_sets.REFERENCE`).
PUBLISHED = (
    (1.69, 0.34, 0.28),
    (1.8172, 0.3478, 0.3658),
    (1.9001, 0.3752, 0.4310),
    (2.5598, 0.6786, 0.4389),
    (2.7634, 0.7197, 0.3963),
    (2.7007, 0.6427, 0.7083),
)
# Other data and tokens have other laws: the prior is this much wider than these few scatter.
_WIDER = 2.0
# The reducible losses at the middle of a grid: 0.3 nats, within a factor 3.3 (one sd).
_LOG_TERM, _LOG_TERM_SD = np.log(0.3), 1.2
# The scatter of one run about the law, in log loss, before any run tells it, as if from so many
# degrees of freedom: published tables scatter by 0.003 to 0.02 about their surfaces.
_SD, _SD_DOF = 0.01, 3.0
# Of that variance, the part that all repeats of one configuration share (lack of fit): believed,
# and at least. It is why ten repeats are not worth ten configurations.
_MISFIT, _LEAST_MISFIT = 0.2, 0.1
# The noise may grow with the loss, not fall: on the word of a few residuals the cheapest runs would
# be the surest ones. And the slope is believed by half at so many degrees of freedom.
_SLOPE_DOF = 20.0
# Two branches of one trunk, of D and D' > D tokens, share D / D' of their run-to-run variance, the
# part of the longer one's tokens that both have seen; at most this, so that each keeps noise of its
# own and no covariance is singular. Measured correlations
# (results/benchmarks/notes/saving_again.md): 0.6 where D' = 2 D, 0.2 to 0.3 at 4 D, 0.0 at 8 D.
MOST_SHARED = 0.95
# Runs r standard deviations from the law weigh min(5/(4 + r^2), 1), as under Student's t with 4
# degrees of freedom, and of normal noise this much of the variance is left.
_TAILS, _LEFT = 4.0, 0.7666
# Passes of weights and scatter; steps of one descent; the step, in prior sds, at which it ends.
_PASSES, _STEPS, _STILL = 5, 60, 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Independent normal distributions of NAMES about a middle; an sd of zero fixes one.

    Fields:
      mean, sd: [6]. log_n, log_d: ln N_0 and ln D_0.
      noise_sd, noise_dof: of the scatter of one run in log loss.
    """

    mean: Array
    sd: Array
    log_n: float
    log_d: float
    noise_sd: float = _SD
    noise_dof: float = _SD_DOF

    @classmethod
    def published(cls, runs: Runs, *, gamma_sd: float = 0.25) -> Prior:
        """From the fits of public tables, about the middle of these runs or planned runs.

        gamma_sd: sd of log gamma about 0; 0 for a believer in the additive form.
        """
        fits = np.array(PUBLISHED)
        fits[:, 0] = np.log(fits[:, 0])
        E, alpha, beta = fits.mean(axis=0)
        sd_E, sd_alpha, sd_beta = _WIDER * fits.std(axis=0, ddof=1)
        return cls(
            mean=np.array([E, _LOG_TERM, _LOG_TERM, alpha, beta, 0.0]),
            sd=np.array([sd_E, _LOG_TERM_SD, _LOG_TERM_SD, sd_alpha, sd_beta, gamma_sd]),
            log_n=float(np.log(runs.n_params).mean()),
            log_d=float(np.log(runs.n_tokens).mean()),
        )

    def curved(self, phi: Array) -> Array:
        """Parameters of `laws.CURVED` [..., 6] from NAMES [..., 6]."""
        log_E, log_N, log_D, alpha, beta, log_gamma = np.moveaxis(phi, -1, 0)
        gamma = np.exp(log_gamma)
        log_A, log_B = log_N + alpha * self.log_n, log_D + beta * self.log_d
        columns = [log_E, log_A / gamma, log_B / gamma]
        return np.stack([*np.exp(columns), alpha / gamma, beta / gamma, gamma], axis=-1)

    def log_loss(self, phi: Array, runs: Runs) -> Array:
        """log L [..., n] for NAMES [..., 6]."""
        return np.log(
            CURVED.predict(self.curved(phi), {"n_params": runs.n_params, "n_tokens": runs.n_tokens})
        )

    def slopes(self, phi: Array, runs: Runs) -> Array:
        """d log L / d NAMES, [..., n, 6]."""
        p = np.moveaxis(np.asarray(phi, float), -1, 0)[..., None]
        return log_loss_slopes(
            p, np.log(runs.n_params) - self.log_n, np.log(runs.n_tokens) - self.log_d
        )


def log_loss_slopes(p: Array, n: Array, d: Array) -> Array:
    """d log L / d NAMES [..., n, 6]; p: NAMES [6, ..., 1], n = ln N/N_0, d = ln D/D_0."""
    log_E, log_N, log_D, alpha, beta, log_gamma = p
    gamma = np.exp(log_gamma)
    u, v = (log_N - alpha * n) / gamma, (log_D - beta * d) / gamma
    both = np.logaddexp(u, v)
    share, reducible = np.exp(u - both), np.exp(gamma * both)
    loss = np.exp(log_E) + reducible
    bend = gamma * (both - share * u - (1.0 - share) * v)
    terms = (share, 1.0 - share, -share * n, -(1.0 - share) * d, bend)
    ofs = [np.exp(log_E) / loss, *(term * reducible / loss for term in terms)]
    return np.stack(np.broadcast_arrays(*ofs), axis=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """How runs scatter about the law, in log loss: variances, and how they change with the loss.

    Fields:
      own: of a run alone, of which branches of one trunk share some; misfit: shared by the runs of
        a configuration.
      slope, at: sd is multiplied by exp(slope (log L - at)), within the fitted losses `span`.
      dof: degrees of freedom that the runs gave; the rest is the prior's.
    """

    own: float
    misfit: float
    slope: float = 0.0
    at: float = 0.0
    span: tuple[float, float] = (0.0, 0.0)
    dof: float = 0.0

    @property
    def one_run_sd(self) -> float:
        return float(np.sqrt(self.own + self.misfit))

    def scale(self, log_loss: Array) -> Array:
        """Factor on the sd at a fitted log loss, same shape."""
        return np.exp(self.slope * (np.clip(log_loss, *self.span) - self.at))


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """Draws of the law given some runs.

    Fields:
      phi: draws of NAMES, [R, 6]. best: the most likely one. weights: of the runs, [n]; those far
        from the law weigh less. known: how many parameters the runs rather than the prior tell.
    """

    prior: Prior
    runs: Runs
    phi: Array
    best: Array
    weights: Array
    scatter: Scatter
    known: float
    findings: tuple[str, ...]

    @property
    def curved(self) -> Array:
        """The draws as parameters of `laws.CURVED`, [R, 6]."""
        return self.prior.curved(self.phi)


def believe(runs: Runs, prior: Prior, *, n_draws: int = 32, seed: int = 0) -> Belief:
    """What the runs and the prior say of the law.

    Args:
      runs: finished ones; those that are not ok are left out. There may be none.
      n_draws, seed: of the draws.
    """
    runs = runs.select(runs.is_ok)
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n_draws, len(NAMES)))
    y = np.log(runs.loss_nats)
    scatter = _scatter(prior, runs, y, np.zeros(len(runs)), dof=0)
    weights = np.ones(len(runs))
    begin, best = z, prior.mean
    for _ in range(_PASSES if len(runs) else 0):
        root = np.linalg.cholesky(covariance(runs, scatter, y, weights))
        best = _nearest(prior, runs, y, begin, np.zeros_like(begin), root)
        begin = (best - prior.mean)[None] / np.where(prior.sd > 0, prior.sd, 1.0)
        fitted = prior.log_loss(best, runs)
        residuals = y - fitted
        scatter = _scatter(prior, runs, fitted, residuals * np.sqrt(weights / _LEFT))
        spread = scatter.one_run_sd * scatter.scale(fitted)
        weights = np.minimum((_TAILS + 1) / (_TAILS + (residuals / spread) ** 2), 1.0)
    root = np.linalg.cholesky(covariance(runs, scatter, y, weights))
    noisy = y + rng.standard_normal((n_draws, len(runs))) @ root.T
    begin = np.broadcast_to(begin[:1], z.shape)
    known = _known(prior, runs, best, root)
    return Belief(
        prior=prior,
        runs=runs,
        phi=_descended(prior, runs, noisy, begin, z, root)[0],
        best=best,
        weights=weights,
        scatter=scatter,
        known=known,
        findings=tuple(_findings(prior, runs, scatter, known)),
    )


def covariance(runs: Runs, scatter: Scatter, log_loss: Array, weights: Array) -> Array:
    """Of the runs about the law, [n, n]: own noise, what repeats share, what branches share."""
    scale = scatter.scale(log_loss) / np.sqrt(weights)
    together, own = effects(runs, scatter)
    return (together + np.diag(own)) * scale[:, None] * scale


def effects(runs: Runs, scatter: Scatter) -> tuple[Array, Array]:
    """Covariance that runs share [n, n], and the variance that each has to itself [n]."""
    if not len(runs):
        return np.zeros((0, 0)), np.zeros(0)
    config = configurations(runs)
    trunk = np.unique(runs.cluster_id, return_inverse=True)[1].reshape(-1)
    same_config, same_trunk = (label[:, None] == label for label in (config, trunk))
    is_branch = np.any(same_trunk & ~same_config, axis=1)
    log_d = np.log(runs.n_tokens)
    in_common = np.exp(-np.abs(log_d[:, None] - log_d)) * (same_trunk & is_branch)
    shared = MOST_SHARED * scatter.own
    return scatter.misfit * same_config + shared * in_common, scatter.own - shared * is_branch


def _scatter(
    prior: Prior, runs: Runs, fitted: Array, residuals: Array, *, dof: int | None = None
) -> Scatter:
    """Scatter of the residuals, drawn towards the prior's as far as they are few."""
    labels = configurations(runs) if len(runs) else np.zeros(0, int)
    dof = max(len(np.unique(labels)) - N_ADDITIVE, 0) if dof is None else dof
    total, misfit, slope = prior.noise_sd**2, _MISFIT, 0.0
    if dof:
        scale = local_scale(fitted, residuals, N_ADDITIVE)
        noise = estimate_noise(runs, residuals / scale, N_ADDITIVE)
        total = (prior.noise_dof * total + dof * noise.one_run_sd**2) / (prior.noise_dof + dof)
        if np.ptp(fitted) > 0:
            found = float(np.polyfit(fitted, np.log(scale), 1)[0])
            slope = max(found, 0.0) * dof / (dof + _SLOPE_DOF)
        if n_repeats := len(runs) - len(np.unique(labels)):
            seen = noise.misfit_sd**2 / max(noise.one_run_sd**2, 1e-300)
            misfit = (prior.noise_dof * misfit + n_repeats * seen) / (prior.noise_dof + n_repeats)
    misfit = max(misfit, _LEAST_MISFIT)
    return Scatter(
        own=(1 - misfit) * total,
        misfit=misfit * total,
        slope=slope,
        at=float(fitted.mean()) if len(runs) else 0.0,
        span=(float(fitted.min()), float(fitted.max())) if len(runs) else (0.0, 0.0),
        dof=dof,
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
            f"{_WIDER:g} times wider, and on a scatter of {prior.noise_sd:g} in log loss."
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
