# SPDX-License-Identifier: Apache-2.0
"""How runs scatter about a law: each by itself, repeats and branches of one trunk together."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.design.prior import N_ADDITIVE, Prior
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs
from scaling.uncertainty.groups import configurations, trunks
from scaling.uncertainty.noise import estimate_noise, local_scale

# Of that variance, the part that all repeats of one configuration share (lack of fit): as published
# tables suggest, and at least. It is why ten repeats are not worth ten configurations.
_MISFIT, _LEAST_MISFIT = 0.2, 0.1


# The noise may grow with the loss, not fall: on the word of a few residuals the cheapest runs would
# be the surest ones. And the slope counts half at so many degrees of freedom.
_SLOPE_DOF = 20.0


# Two branches of one trunk, of D and D' > D tokens, share D / D' of their run-to-run variance, the
# part of the longer one's tokens that both have seen; at most this, so that each keeps noise of its
# own and no covariance is singular. Measured: results/benchmarks/notes/saving_again.md.
MOST_SHARED = 0.95


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

    def scale(self, log_loss: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Factor on the sd at a fitted log loss, same shape."""
        return np.exp(self.slope * (np.clip(log_loss, *self.span) - self.at))


def covariance(
    runs: Runs, scatter: Scatter, log_loss: Float[Array, " n"], weights: Float[Array, " n"]
) -> Float[Array, "n n"]:
    """Of the runs about the law, [n, n]: own noise, what repeats share, what branches share."""
    scale = scatter.scale(log_loss) / np.sqrt(weights)
    together, own = effects(runs, scatter)
    return (together + np.diag(own)) * scale[:, None] * scale


def effects(runs: Runs, scatter: Scatter) -> tuple[Float[Array, "n n"], Float[Array, " n"]]:
    """Covariance that runs share [n, n], and the variance that each has to itself [n]."""
    if not len(runs):
        return np.zeros((0, 0)), np.zeros(0)
    labels = (configurations(runs), trunks(runs))
    same_config, same_trunk = (label[:, None] == label for label in labels)
    is_branch = np.any(same_trunk & ~same_config, axis=1)
    log_d = np.log(runs.n_tokens)
    in_common = np.exp(-np.abs(log_d[:, None] - log_d)) * (same_trunk & is_branch)
    shared = MOST_SHARED * scatter.own
    return scatter.misfit * same_config + shared * in_common, scatter.own - shared * is_branch


def fit_scatter(
    prior: Prior,
    runs: Runs,
    fitted: Float[Array, " n"],
    residuals: Float[Array, " n"],
    *,
    dof: int | None = None,
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
