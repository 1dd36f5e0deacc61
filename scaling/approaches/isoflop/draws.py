# SPDX-License-Identifier: Apache-2.0
"""Replicates of the losses on isoFLOP curves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy.polynomial import Polynomial

from scaling.approaches.isoflop.curves import Curve
from scaling.fit import Noise
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs
from scaling.uncertainty import bootstrap_draws
from scaling.uncertainty.bootstrap_choice import (
    can_resample,
    choose_method,
    cluster_findings,
    component_findings,
)
from scaling.uncertainty.groups import members, share_noise
from scaling.uncertainty.noise import estimate_noise, repeat_noise, shared_variances

GIVEN = "seed noise as given"
REPEATS = "run-to-run noise of the repeats"
_NOT_SHARED = (
    "runs share noise (cluster_id), and seed noise as given is drawn for each by itself: the "
    "intervals do not respect it."
)
# Degree of the polynomial whose residuals count as noise.
_WIDEST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Replicated losses of the fitted runs, in the order of the curves one behind the other.

    targets, weights: [R, n]. noise: in the units of log loss, like every other fit's. given: the
    noise that was asked for, in words or as a number. findings: on noise that runs share.
    """

    targets: Float[Array, "R n"]
    weights: Float[Array, "R n"]
    noise: Noise | None
    method: str
    given: float | str | None
    findings: Sequence[str] = ()

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

    With seed_noise normal noise of that sd is added to the curve, that of each run by itself: it
    does not respect cluster_id, which is said. Akima curves pass through the mean of each size, so
    that they have no residuals: the noise is then that among repeats, and without any there are no
    replicates. Otherwise as `uncertainty.resampling` says.

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
        drawn = _plain(fitted + sd * normal, None, GIVEN, given)
        return replace(drawn, findings=[_NOT_SHARED]) if share_noise(runs) else drawn
    if curves[0].kind == "akima":
        return _from_repeats(runs, fitted, n_replicates, rng)
    return _from_residuals(runs, fitted, curves, n_replicates, bootstrap, rng)


def _plain(targets: Array, noise: Noise | None, method: str, given: float | str | None) -> Draws:
    return Draws(
        targets=targets, weights=np.ones(targets.shape), noise=noise, method=method, given=given
    )


def _from_repeats(runs: Runs, fitted: Array, n_replicates: int, rng: np.random.Generator) -> Draws:
    noise, shared = repeat_noise(runs)
    if noise is None:
        return _plain(np.empty((0, len(fitted))), None, "none", None)
    if shared is not None:
        moved = fitted * np.exp(shared.draws(n_replicates, rng))
        found = component_findings(runs, shared)
        return replace(_plain(moved, noise, REPEATS, None), findings=found)
    scale = noise.run_sd * bootstrap_draws.scale_draws(noise.dof, n_replicates, rng)
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
    scatter, slopes = _scatter(runs, curves)
    n_absorbed = slopes.shape[1]
    shared = shared_variances(runs, scatter, slopes)
    noise = estimate_noise(runs, scatter, n_absorbed, shared)
    method = choose_method(bootstrap, runs, n_absorbed)
    drawn = n_replicates if can_resample(method, noise) else 0
    # Relative to the curve: log loss scatters alike at all budgets, nats do not. Pairs keep the
    # losses that were measured and draw weights only.
    level = np.log(np.maximum(fitted, runs.loss_nats.min()))
    moved, weights = bootstrap_draws.draw_data(
        method, runs, level, scatter, n_absorbed, drawn, rng, slopes=slopes
    )
    findings: Sequence[str] = ()
    if shared is not None:
        findings = cluster_findings(runs, method, n_absorbed, shared)
    measured = np.broadcast_to(runs.loss_nats, moved.shape)
    targets = measured if method == "pairs" else fitted * (1.0 + moved - level)
    return Draws(
        targets=targets, weights=weights, noise=noise, method=method, given=None, findings=findings
    )


def pooled_share(runs: Runs, curves: Sequence[Curve]) -> float:
    """Share of the degrees of freedom pooled among curves that counts: 1 where no noise is shared.

    Pooled is r'Ar, mean residuals of sizes about the curves. With rho the correlation of two runs
    of one trunk and V = (1 - rho) + rho ZZ' its degrees of freedom are tr(AV)^2 / tr(AVAV)
    (Satterthwaite 1946). Within one budget no trunk occurs twice: tr(AV) is tr(A).

    Args:
      runs: those of the curves, one curve behind the other.
    """
    from scipy.linalg import block_diag

    fitted = np.concatenate([c.loss(c.x) for c in curves])
    slopes = block_diag(*(c.basis(c.x / np.ptp(c.x)) for c in curves)) / fitted[:, None]
    shared = shared_variances(runs, runs.loss_nats / fitted - 1.0, slopes)
    if shared is None:
        return 1.0
    A = _projector(members(shared.configurations)) - _projector(slopes * fitted[:, None])
    Z = members(shared.trunks)
    between = Z.T @ A @ Z
    # Where the curves follow each trunk nothing tells rho.
    known = shared.trunk_dof > 0
    rho, weights = (shared.correlation, shared.weights) if known else (np.ones(1), np.ones(1))
    total, once, twice = np.trace(A), np.trace(between), np.sum(between * between.T)
    spread = (1.0 - rho) ** 2 * total + 2.0 * rho * (1.0 - rho) * once + rho**2 * twice
    return float(total / (weights @ spread)) if total > 0.5 else 1.0


def _projector(columns: Array) -> Array:
    return columns @ np.linalg.pinv(columns)


def _scatter(runs: Runs, curves: Sequence[Curve]) -> tuple[Array, Array]:
    """Relative residuals [n] about curves with up to two more degrees, and these' slopes [n, P].

    What a parabola misses is the same in every replicate of the study: a bias, which
    `approach2_bias` estimates, and no noise. A wider polynomial takes most of it away.
    """
    from scipy.linalg import block_diag

    ends = np.cumsum([len(c.x) for c in curves])[:-1]
    residuals, slopes = [], []
    for curve, loss in zip(curves, np.split(runs.loss_nats, ends), strict=True):
        own = len(curve.coefficients) - 1
        degree = max(own, min(_WIDEST, len(curve.sizes) - 3))
        wide = Polynomial.fit(curve.x, loss, degree)(curve.x)
        residuals.append((loss - wide) / wide)
        # In units that keep the powers apart.
        slopes.append(np.vander(curve.x / np.ptp(curve.x), degree + 1) / wide[:, None])
    return np.concatenate(residuals), block_diag(*slopes)
