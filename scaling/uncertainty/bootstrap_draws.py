# SPDX-License-Identifier: Apache-2.0
"""How replicates of a fit's data are drawn. `choice` says which of the four ways suits.

* "pairs": clusters of runs with replacement;
* "residual": the design is kept, and residuals, inflated by the degrees of freedom the fit has
  used, are drawn anew. A residual has two parts. Repeats of one (N, D) share their lack of fit, so
  the mean residual of a configuration is drawn as one, with the spread that the means have;
  deviations of the repeats from it are drawn run by run. Each replicate also draws its scale,
  sqrt(dof/chi2_dof): with few degrees of freedom the intervals then have the width of Student's t,
  not of a normal of known variance (Davison and Hinkley 1997, sec. 6.3; the scale as in a fiducial
  argument);
* "components": what is common to the runs of a trunk, lack of fit and the runs' own noise are drawn
  separately, and so are the sizes of the three, see `variance_components`;
* "wild": the pattern of a cluster's residuals is kept, and only their common sign and size are
  drawn (Webb 2023, six-point weights); those of weighted runs are taken about a fit without them.

Noise often grows with the loss. Residuals are divided by a scale that is log-linear in the fitted
value, drawn, and multiplied by it where they land (Glejser 1969), see `noise.local_scale`.

Fits of least absolute deviations, and Huber's with a delta below the scatter, pass through about
as many points as they have parameters. Those residuals of zero say nothing of the noise. They are
replaced by draws from the others, and nothing is inflated; wild draws keep each residual in its
place, and there a normal draw of the others' scale is added instead.

How often the intervals hold the truth: results/benchmarks/notes/intervals.md.
"""

import numpy as np
from jaxtyping import Float, Int

from scaling.fit import Noise
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs
from scaling.uncertainty.groups import clusters, configurations, trunks
from scaling.uncertainty.noise import estimate_noise, local_scale
from scaling.uncertainty.variance_components import variance_posterior

_WEBB = np.sqrt([0.5, 1.0, 1.5])
# Size of the residuals that replace absorbed ones, relative to the others. The errors at absorbed
# points are about half as large, but at that size the density at the median, which few points
# tell, would pass for known: chosen by coverage, see results/benchmarks/notes/intervals.md.
_REFILLED = 0.75
# Median of the absolute value of a standard normal variable.
_NORMAL_MEDIAN = 0.6745


def refilled(
    residuals: Float[Array, " n"], n_absorbed: int, rng: np.random.Generator
) -> Float[Array, " n"]:
    """Residuals [n], the n_absorbed smallest replaced by draws from the others."""
    order = np.argsort(np.abs(residuals))
    absorbed, kept = np.split(order, [min(n_absorbed, len(order) - 1)])
    filled = residuals.copy()
    filled[absorbed] = _REFILLED * rng.choice(residuals[kept], size=len(absorbed))
    return filled


def _middle_scale(residuals: Array, n_absorbed: int) -> float:
    """Robust standard deviation of the residuals other than those the fit has made zero."""
    kept = np.sort(np.abs(residuals))[min(n_absorbed, len(residuals) - 1) :]
    return float(np.median(kept)) / _NORMAL_MEDIAN


def pairs_weights(
    labels: Int[Array, " n"], n_replicates: int, rng: np.random.Generator
) -> Float[Array, "R n"]:
    """How often each run is drawn, [R, n], clusters resampled with replacement."""
    n_clusters = labels.max() + 1
    chance = np.full(n_clusters, 1.0 / n_clusters)
    return rng.multinomial(n_clusters, chance, size=n_replicates).astype(float)[:, labels]


def scale_draws(dof: int, n_replicates: int, rng: np.random.Generator) -> Float[Array, " R"]:
    """sqrt(dof / chi2_dof): the spread of a scale known from dof degrees of freedom, [R]."""
    return np.sqrt(dof / rng.chisquare(dof, size=n_replicates))


def residual_draws(
    runs: Runs,
    residuals: Float[Array, " n"],
    noise: Noise,
    n_replicates: int,
    rng: np.random.Generator,
) -> Float[Array, "R n"]:
    """New residuals [R, n] for a kept design: one draw per configuration, one per repeat."""
    labels = configurations(runs)
    counts = np.bincount(labels)
    means = np.bincount(labels, residuals) / counts
    expected = np.sqrt(noise.misfit_sd**2 + noise.run_sd**2 / counts) + 1e-300
    pool = means / expected
    # Inflated to the spread that the noise estimate has after its degrees of freedom.
    pool = pool * np.sqrt(len(pool) / max(noise.dof, 1))
    total = (rng.choice(pool, size=(n_replicates, len(counts))) * expected)[:, labels]
    deviations = residuals - means[labels]
    repeated = counts[labels] > 1
    if repeated.any():
        grown = deviations / np.sqrt(1.0 - 1.0 / np.maximum(counts[labels], 1.5))
        fresh = rng.choice(grown[repeated], size=(n_replicates, len(labels)))
        fresh = fresh - _group_means(fresh, labels, counts)
        total = total + np.where(repeated, fresh, 0.0)
    return total * scale_draws(max(noise.dof, 1), n_replicates, rng)[:, None]


def _group_means(values: Array, labels: Array, counts: Array) -> Array:
    membership = (labels[:, None] == np.arange(len(counts))) / counts
    return (values @ membership)[:, labels]


def wild_draws(
    residuals: Float[Array, " n"],
    labels: Int[Array, " n"],
    n_parameters: int,
    n_replicates: int,
    rng: np.random.Generator,
    *,
    absorbs: bool = False,
) -> Float[Array, "R n"]:
    """New residuals [R, n]: each cluster's own, times one draw of mean 0 and variance 1.

    absorbs: for fits that pass through points, whose residuals of zero would stay zero: a common
    draw per cluster is added, and the spread kept.
    """
    n_clusters = int(labels.max()) + 1
    shape = (n_replicates, n_clusters)
    drawn = residuals * rng.choice(np.concatenate([-_WEBB, _WEBB]), size=shape)[:, labels]
    if absorbs:
        kernel = _middle_scale(residuals, n_parameters) * rng.standard_normal(shape)[:, labels]
        drawn = (drawn + kernel) / np.sqrt(2.0)
    return np.sqrt(n_clusters / max(n_clusters - n_parameters, 1)) * drawn


def left_out_residuals(
    residuals: Float[Array, " n"], slopes: Float[Array, "n P"], weights: Float[Array, " n"]
) -> Float[Array, " n"]:
    """Residuals [n] about a fit to the other runs, r / (1 - h) with h the leverage of the run.

    A run that weighs much pulls the fit to itself: its residual says less of its noise than that of
    the others (MacKinnon and White 1985, HC3).
    """
    root = np.sqrt(weights)[:, None] * slopes
    leverage = np.sum(np.linalg.qr(root)[0] ** 2, axis=1)
    return residuals / np.maximum(1.0 - leverage, 1e-3)


def draw_data(
    method: str,
    runs: Runs,
    fitted: Float[Array, " n"],
    residuals: Float[Array, " n"],
    n_parameters: int,
    n_replicates: int,
    rng: np.random.Generator,
    *,
    absorbs: bool = False,
    slopes: Float[Array, "n P"] | None = None,
    weights: Float[Array, " n"] | None = None,
) -> tuple[Float[Array, "R n"], Float[Array, "R n"]]:
    """Targets and weights of the replicates, both [R, n]; those of the fit itself come on top.

    absorbs: for fits that pass through points, see `passes_through_points`; components are told
    by contrasts, in which absorbed residuals have their size again.
    slopes: of the fitted values by the parameters, [n, P]; "components" needs them.
    weights: of the runs in the fit, where they differ, [n].
    """
    shape = (n_replicates, len(fitted))
    if method == "pairs":
        counts = pairs_weights(clusters(runs), n_replicates, rng)
        return np.broadcast_to(fitted + residuals, shape), counts
    if method == "wild" and weights is not None and slopes is not None and not absorbs:
        residuals, n_parameters = left_out_residuals(residuals, slopes, weights), 0
    scale = local_scale(fitted, residuals, n_parameters)
    residuals = residuals / scale
    if method == "components" and slopes is not None:
        of_labels = (trunks(runs), configurations(runs))
        known = variance_posterior(residuals, slopes / scale[:, None], *of_labels)
        drawn = known.draws(n_replicates, rng) if n_replicates else np.empty(shape)
    elif method == "wild":
        drawn = wild_draws(
            residuals, clusters(runs), n_parameters, n_replicates, rng, absorbs=absorbs
        )
    else:
        if absorbs:
            residuals, n_parameters = refilled(residuals, n_parameters, rng), 0
        noise = estimate_noise(runs, residuals, n_parameters)
        drawn = residual_draws(runs, residuals, noise, n_replicates, rng)
    return fitted + scale * drawn, np.ones(shape)
