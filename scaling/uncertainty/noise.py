# SPDX-License-Identifier: Apache-2.0
"""How runs scatter about a law: run to run, by lack of fit, and in common within a trunk."""

import numpy as np
from jaxtyping import Float, Int

from scaling.fit import Noise
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs
from scaling.uncertainty.groups import configurations, members, share_noise, trunks
from scaling.uncertainty.variance_components import VariancePosterior, variance_posterior

# Prior standard deviation, about zero, of the slope of log scale per standard deviation of the
# fitted value; steepest slope considered.
_SLOPE_PRIOR, _STEEPEST = 0.35, 1.5


_SLOPE_STEPS = 30


def repeat_sd(values: Float[Array, " n"], labels: Int[Array, " n"]) -> tuple[float | None, int]:
    """Pooled standard deviation among repeats, and its degrees of freedom; None without any."""
    counts = np.bincount(labels)
    dof = int(np.sum(counts - 1))
    if dof == 0:
        return None, 0
    means = np.bincount(labels, values) / counts
    return float(np.sqrt(np.sum((values - means[labels]) ** 2) / dof)), dof


def estimate_noise(
    runs: Runs,
    residuals: Float[Array, " n"],
    n_parameters: int,
    shared: VariancePosterior | None = None,
) -> Noise:
    """Run-to-run scatter and lack of fit from the residuals of a fit, in the residuals' unit.

    With K configurations, m_k repeats each and P parameters, configuration means scatter with
    variance misfit^2 + run^2/m_k, of which the fit has absorbed P/K. Without repeats the two
    cannot be told apart and all of the scatter counts as run-to-run.

    shared: as `shared_variances` gives it. Scatter and degrees of freedom of runs that share noise
    come from there: what trunks do, a fit absorbs more of, and there are fewer of them than runs.
    """
    labels = configurations(runs)
    counts = np.bincount(labels)
    means: Array = np.bincount(labels, residuals) / counts
    dof = len(counts) - n_parameters
    run_sd, repeat_dof = repeat_sd(residuals, labels)
    run_sd_nats, _ = repeat_sd(runs.loss_nats, labels)
    between = float(np.sum(means**2)) / dof if dof > 0 else 0.0
    if run_sd is None:
        run_sd, misfit = float(np.sqrt(between)), 0.0
    else:
        excess = between - run_sd**2 * float(np.mean(1.0 / counts))
        misfit = float(np.sqrt(max(0.0, excess)))
    dof = dof if dof > 0 else repeat_dof
    if shared is not None:
        run_sd, misfit, dof = shared.one_run if shared.trunk_dof else (run_sd, misfit, 0)
    return Noise(run_sd_nats=run_sd_nats, run_sd=run_sd, misfit_sd=misfit, dof=dof)


def shared_variances(
    runs: Runs, residuals: Float[Array, " n"], slopes: Float[Array, "n P"]
) -> VariancePosterior | None:
    """Variances of trunks, misfit and own noise; None for runs that share no noise.

    Args:
      residuals: [n]. slopes: of the fitted values by the parameters, [n, P].
    """
    if not share_noise(runs):
        return None
    return variance_posterior(residuals, slopes, trunks(runs), configurations(runs))


def repeat_noise(runs: Runs) -> tuple[Noise | None, VariancePosterior | None]:
    """Run-to-run noise of log loss among repeats, and what of it runs share, if any do.

    None where no configuration is repeated, or only within one trunk.
    """
    labels, values = configurations(runs), np.log(runs.loss_nats)
    run_sd, dof = repeat_sd(values, labels)
    if run_sd is None:
        return None, None
    nats, _ = repeat_sd(runs.loss_nats, labels)
    shared = shared_variances(runs, values, members(labels))
    if shared is not None:
        if not shared.trunk_dof:
            return None, None
        run_sd, _, dof = shared.one_run
    return Noise(run_sd_nats=nats, run_sd=run_sd, misfit_sd=0.0, dof=dof), shared


def local_scale(
    fitted: Float[Array, " n"], residuals: Float[Array, " n"], n_parameters: int
) -> Float[Array, " n"]:
    """Scale of the noise along the fitted values, [n]: exp(slope u), u their standard score.

    The slope minimises log mean(|r| exp(-slope u)), which is convex: Laplace's likelihood with the
    common scale projected out. With standard error s it is multiplied by 1/(1 + (s/prior)^2), the
    posterior mean under a normal prior.
    """
    size, dof = np.abs(residuals), len(fitted) - n_parameters
    if dof < 1 or not np.ptp(fitted) > 0 or not size.any():
        return np.ones(len(fitted))
    u = (fitted - fitted.mean()) / fitted.std()
    slope = 0.0
    for _ in range(_SLOPE_STEPS):
        share = size * np.exp(-slope * u)
        share = share / share.mean()
        step = np.mean(share * u) / np.mean(share * u**2)
        slope = float(np.clip(slope + step, -_STEEPEST, _STEEPEST))
    variance = float(np.mean((share - 1.0) ** 2)) / dof
    return np.exp(slope / (1.0 + variance / _SLOPE_PRIOR**2) * u)
