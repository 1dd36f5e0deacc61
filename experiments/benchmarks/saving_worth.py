# SPDX-License-Identifier: Apache-2.0
"""What runs tell of N*, by the law and the noise of a thousand runs instead of their own fit.

An interval that a study finds of itself is as wide as its own draw of the noise makes it: with some
fifty runs that alone moves its width by a quarter. Here all runs of all studies tell the law, how
the noise changes with the size, and what configurations miss of the law; runs of one size and seed
share the noise of the tokens that both have seen. What then is left of the variance of ln N* is the
information of the design, whatever its losses were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from experiments.fitting import prepare_to_fit

if TYPE_CHECKING:
    from scaling.belief import Prior
    from scaling.runs import Runs

Array = np.ndarray
# Repeats that a configuration needs to say what the law misses there.
_LEAST_REPEATS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """What all runs tell.

    Attributes:
      prior: of belief.NAMES; only the middle of the runs is used of it.
      phi: the law, [P]: belief.NAMES, without gamma if the law is additive.
      log_n, log_sd: sd of log loss among repeats, by ln N; interpolated.
      misfit: variance of what configurations miss of the law.
      target: d ln N* / d phi, [P].
    """

    prior: Prior
    phi: Array
    log_n: Array
    log_sd: Array
    misfit: float
    target: Array


def world(runs: Runs, law: str, noise: Sequence[Sequence[float]], target_flops: float) -> World:
    """What all runs tell of a law.

    Args:
      runs: all of them. law: "additive" or "curved".
      noise: rows of saving_again.noise_by_size.
    """
    prepare_to_fit()
    from scaling.belief import NAMES, Prior
    from scaling.compute import Ladder
    from scaling.design_targets import Target
    from scaling.surface import fit_surface
    from scaling.uncertainty import configurations

    found = fit_surface(runs, law, n_bootstrap=0).parameters
    prior = Prior.published(runs)
    gamma = found.get("gamma", 1.0)
    alpha, beta = gamma * found["alpha"], gamma * found["beta"]
    log_t = [
        gamma * math.log(found[name]) - slope * middle
        for name, slope, middle in (("A", alpha, prior.log_n), ("B", beta, prior.log_d))
    ]
    phi = np.array([math.log(found["E"]), *log_t, alpha, beta, math.log(gamma)])
    aim = Target(name="n_params_opt", flops=target_flops, low=float(runs.budget.min()))
    target = aim.slopes(prior, phi[None], Ladder.from_runs(runs))[0, 0]
    n_free = len(NAMES) if law == "curved" else len(NAMES) - 1
    log_n, log_sd = np.log([row[:2] for row in noise]).T
    labels = configurations(runs)
    counts = np.bincount(labels)
    missed = np.bincount(labels, np.log(runs.loss_nats) - prior.log_loss(phi, runs)) / counts
    own = np.exp(2 * np.interp(np.log(runs.n_params), log_n, log_sd))
    of_mean = np.bincount(labels, own) / counts**2
    many = counts >= _LEAST_REPEATS
    misfit = max(float(np.mean(missed[many] ** 2 - of_mean[many])), 0.0) if many.any() else 0.0
    return World(
        prior=prior, phi=phi, log_n=log_n, log_sd=log_sd, misfit=misfit, target=target[:n_free]
    )


def covariance(known: World, runs: Runs) -> Array:
    """Of log losses about the law, [n, n]."""
    from scaling.uncertainty import configurations, trunks

    sd = np.exp(np.interp(np.log(runs.n_params), known.log_n, known.log_sd))
    log_d = np.log(runs.n_tokens)
    same_trunk, same_point = (
        np.equal.outer(label, label) for label in (trunks(runs), configurations(runs))
    )
    in_common = np.exp(-np.abs(log_d[:, None] - log_d)) * same_trunk
    return in_common * sd[:, None] * sd + known.misfit * same_point


def sd_log_n_opt(known: World, runs: Runs) -> float:
    """Sd of ln N* at the target by generalised least squares of these runs, linearised."""
    slopes = known.prior.slopes(known.phi[None], runs)[0][:, : len(known.target)]
    information = slopes.T @ np.linalg.solve(covariance(known, runs), slopes)
    return float(np.sqrt(known.target @ np.linalg.solve(information, known.target)))


def evidence(sds: Mapping[str, float], seconds: Mapping[str, float], way: str, base: str) -> float:
    """1 / variance per device-second, over that of runs alone."""
    return (sds[base] / sds[way]) ** 2 * seconds[base] / seconds[way]
