# SPDX-License-Identifier: Apache-2.0
"""Replicates of the losses on isoFLOP curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Polynomial

from scaling import uncertainty
from scaling.fit import Noise
from scaling.isoflop_curves import Curve
from scaling.runs import Runs

Array = np.ndarray

GIVEN = "seed noise as given"
REPEATS = "run-to-run noise of the repeats"
# Degree of the polynomial whose residuals count as noise.
_WIDEST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Replicated losses of the fitted runs, in the order of the curves one behind the other.

    targets, weights: [R, n]. noise: in the units of log loss, like every other fit's. given: the
    noise that was asked for, in words or as a number.
    """

    targets: Array
    weights: Array
    noise: Noise | None
    method: str
    given: float | str | None
    why_none: str = "no repeats and no degrees of freedom: the data give no intervals."

    def per_curve(self, curves: Sequence[Curve]) -> tuple[list[Array], list[Array]]:
        """Targets and weights of each curve's runs."""
        ends = np.cumsum([len(c.x) for c in curves])[:-1]
        return np.split(self.targets, ends, axis=1), np.split(self.weights, ends, axis=1)


def draw(
    runs: Runs,
    curves: Sequence[Curve],
    n_replicates: int,
    *,
    seed: int,
    bootstrap: str,
    seed_noise: float | Callable[[Array], Array] | None,
) -> Draws:
    """Replicates of the losses of these runs about their curves.

    With seed_noise normal noise of that sd is added to the curve; Akima curves pass through the
    mean of each size, so that they have no residuals: the noise is then that among repeats, and
    without any there are no replicates. Otherwise as `uncertainty` says.

    Args:
      runs: those of the curves, one curve behind the other.
    """
    rng = np.random.default_rng(seed)
    fitted = np.concatenate([c.loss(c.x) for c in curves])
    if seed_noise is not None:
        sd = seed_noise(fitted) if callable(seed_noise) else np.full(len(fitted), seed_noise)
        named = getattr(seed_noise, "__name__", "a function of the loss")
        given = named if callable(seed_noise) else float(seed_noise)
        normal = rng.standard_normal((n_replicates, len(fitted)))
        return _plain(fitted + sd * normal, None, GIVEN, given)
    if curves[0].kind == "akima":
        return _from_repeats(runs, fitted, n_replicates, rng)
    return _from_residuals(runs, fitted, curves, n_replicates, bootstrap, rng)


def _plain(targets: Array, noise: Noise | None, method: str, given: float | str | None) -> Draws:
    return Draws(
        targets=targets, weights=np.ones(targets.shape), noise=noise, method=method, given=given
    )


def _from_repeats(runs: Runs, fitted: Array, n_replicates: int, rng: np.random.Generator) -> Draws:
    labels = uncertainty.configurations(runs)
    sd, dof = uncertainty.repeat_sd(np.log(runs.loss_nats), labels)
    if sd is None:
        return _plain(np.empty((0, len(fitted))), None, "none", None)
    nats, _ = uncertainty.repeat_sd(runs.loss_nats, labels)
    noise = Noise(run_sd_nats=nats, run_sd=sd, misfit_sd=0.0, dof=dof)
    scale = sd * uncertainty.scale_draws(dof, n_replicates, rng)
    normal = rng.standard_normal((n_replicates, len(fitted)))
    return _plain(fitted * np.exp(scale[:, None] * normal), noise, REPEATS, None)


def _from_residuals(
    runs: Runs,
    fitted: Array,
    curves: Sequence[Curve],
    n_replicates: int,
    bootstrap: str,
    rng: np.random.Generator,
) -> Draws:
    scatter, n_absorbed = _scatter(runs, curves)
    noise = uncertainty.estimate_noise(runs, scatter, n_absorbed)
    method = uncertainty.choose_method(bootstrap, runs, n_absorbed)
    drawn = n_replicates if uncertainty.can_resample(method, noise) else 0
    # Relative to the curve: log loss scatters alike at all budgets, nats do not. Pairs keep the
    # losses that were measured and draw weights only.
    level = np.log(np.maximum(fitted, runs.loss_nats.min()))
    moved, weights = uncertainty.draw_data(method, runs, level, scatter, n_absorbed, drawn, rng)
    measured = np.broadcast_to(runs.loss_nats, moved.shape)
    targets = measured if method == "pairs" else fitted * (1.0 + moved - level)
    return Draws(targets=targets, weights=weights, noise=noise, method=method, given=None)


def _scatter(runs: Runs, curves: Sequence[Curve]) -> tuple[Array, int]:
    """Relative residuals [n] about curves with up to two more degrees, and parameters they took.

    What a parabola misses is the same in every replicate of the study: a bias, which
    `approach2_bias` estimates, and no noise. A wider polynomial takes most of it away.
    """
    ends = np.cumsum([len(c.x) for c in curves])[:-1]
    residuals, n_absorbed = [], 0
    for curve, loss in zip(curves, np.split(runs.loss_nats, ends), strict=True):
        own = len(curve.coefficients) - 1
        degree = max(own, min(_WIDEST, len(curve.sizes) - 3))
        wide = Polynomial.fit(curve.x, loss, degree)(curve.x)
        residuals.append((loss - wide) / wide)
        n_absorbed += degree + 1
    return np.concatenate(residuals), n_absorbed
