# SPDX-License-Identifier: Apache-2.0
"""What is known of a loss law before any run: normal distributions of its parameters.

L = E + (tN + tD)^gamma with tN^gamma = T_N (N/N_0)^-alpha and tD^gamma = T_D (D/D_0)^-beta: the
curved form of `loss_laws.CURVED`, written so that T_N and T_D are the two reducible losses at the
middle (N_0, D_0) of the runs and gamma = 1 is the additive form with the same exponents. A design
that trusts the additive form alone learns nothing of its failure; gamma with a narrow prior makes
it pay for points that would show it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.laws.loss_laws import CURVED
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs

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
WIDER = 2.0


# The reducible losses at the middle of a grid: 0.3 nats, within a factor 3.3 (one sd).
_LOG_TERM, _LOG_TERM_SD = np.log(0.3), 1.2


# The scatter of one run about the law, in log loss, before any run tells it, as if from so many
# degrees of freedom: published tables scatter by 0.003 to 0.02 about their surfaces.
_SD, _SD_DOF = 0.01, 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Independent normal distributions of NAMES about a middle; an sd of zero fixes one.

    Fields:
      mean, sd: [6]. log_n, log_d: ln N_0 and ln D_0.
      noise_sd, noise_dof: of the scatter of one run in log loss.
    """

    mean: Float[Array, " 6"]
    sd: Float[Array, " 6"]
    log_n: float
    log_d: float
    noise_sd: float = _SD
    noise_dof: float = _SD_DOF

    @classmethod
    def published(cls, runs: Runs, *, gamma_sd: float = 0.25) -> Prior:
        """From the fits of public tables, about the middle of these runs or planned runs.

        gamma_sd: sd of log gamma about 0; 0 to take the additive form for granted.
        """
        fits = np.array(PUBLISHED)
        fits[:, 0] = np.log(fits[:, 0])
        E, alpha, beta = fits.mean(axis=0)
        sd_E, sd_alpha, sd_beta = WIDER * fits.std(axis=0, ddof=1)
        return cls(
            mean=np.array([E, _LOG_TERM, _LOG_TERM, alpha, beta, 0.0]),
            sd=np.array([sd_E, _LOG_TERM_SD, _LOG_TERM_SD, sd_alpha, sd_beta, gamma_sd]),
            log_n=float(np.log(runs.n_params).mean()),
            log_d=float(np.log(runs.n_tokens).mean()),
        )

    def curved(self, phi: Float[Array, "*draws 6"]) -> Float[Array, "*draws 6"]:
        """Parameters of `loss_laws.CURVED` [..., 6] from NAMES [..., 6]."""
        log_E, log_N, log_D, alpha, beta, log_gamma = np.moveaxis(phi, -1, 0)
        gamma = np.exp(log_gamma)
        log_A, log_B = log_N + alpha * self.log_n, log_D + beta * self.log_d
        columns = [log_E, log_A / gamma, log_B / gamma]
        return np.stack([*np.exp(columns), alpha / gamma, beta / gamma, gamma], axis=-1)

    def log_loss(self, phi: Float[Array, "*draws 6"], runs: Runs) -> Float[Array, "*draws n"]:
        """log L [..., n] for NAMES [..., 6]."""
        return np.log(
            CURVED.predict(self.curved(phi), {"n_params": runs.n_params, "n_tokens": runs.n_tokens})
        )

    def slopes(self, phi: Float[Array, "*draws 6"], runs: Runs) -> Float[Array, "*draws n 6"]:
        """d log L / d NAMES, [..., n, 6]."""
        p = np.moveaxis(np.asarray(phi, float), -1, 0)[..., None]
        return log_loss_slopes(
            p, np.log(runs.n_params) - self.log_n, np.log(runs.n_tokens) - self.log_d
        )


def log_loss_slopes(
    p: Float[Array, "6 *draws 1"], n: Float[Array, " n"], d: Float[Array, " n"]
) -> Float[Array, "*draws n 6"]:
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
